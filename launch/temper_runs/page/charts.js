// SPDX-License-Identifier: Apache-2.0
// The values under the pointer. They are read off the curves, so that no number is there twice.

const SIZE = 1000;  // As in scale.py.

function shown(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(3);
  return size >= 1000 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(5));
}

function valueAt(chart, place) {
  const [low, high] = chart.dataset.y.split(" ").map(Number);
  const share = 1 - place / SIZE;
  return "log" in chart.dataset ? low * (high / low) ** share : low + share * (high - low);
}

// Where a value lies beyond the edge, it is not known by how much.
function beyond(chart, place) {
  if (!("cut" in chart.dataset)) return "";
  return place <= 0 ? "over " : place >= SIZE ? "under " : "";
}

// Null where the curve has not begun, or has ended.
function nearest(points, x) {
  const all = [...points];
  const room = SIZE / all.length;
  if (x < all[0].x - room || x > all.at(-1).x + room) return null;
  return all.reduce((best, one) => Math.abs(one.x - x) < Math.abs(best.x - x) ? one : best);
}

function tell(chart, x) {
  const [begin, end] = chart.dataset.x.split(" ").map(Number);
  const step = (place) => Math.round(begin + place / SIZE * (end - begin));
  const told = [];
  let place = x;
  for (const line of chart.querySelectorAll("polyline")) {
    const point = nearest(line.points, x);
    if (point === null) continue;
    if (told.length === 0) place = point.x;
    const value = beyond(chart, point.y) + shown(valueAt(chart, point.y));
    told.push(`${line.dataset.name} ${value}`);
  }
  chart.querySelector("output").textContent = `step ${step(place)}: ${told.join(", ")}`;
  chart.querySelector(".here").setAttribute("d", `M${place} 0V${SIZE}`);
}

for (const chart of document.querySelectorAll(".chart")) {
  const plot = chart.querySelector(".plot");
  const here = document.createElementNS("http://www.w3.org/2000/svg", "path");
  here.setAttribute("class", "here");
  plot.append(here);
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    tell(chart, (event.clientX - box.x) / box.width * SIZE);
  });
  plot.addEventListener("pointerleave", () => {
    here.removeAttribute("d");
    chart.querySelector("output").textContent = "";
  });
}
