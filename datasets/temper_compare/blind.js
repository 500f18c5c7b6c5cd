// SPDX-License-Identifier: Apache-2.0
// Shows one pair after another and keeps the choices, also over a closed window.

const data = JSON.parse(document.getElementById("pairs").textContent);
const part = (id) => document.getElementById(id);
const store = `temper-votes-${data.page}`;
let state = {rater: "", votes: []};
let shown = performance.now();

try {
  state = JSON.parse(localStorage.getItem(store)) ?? state;
} catch {
  // Without storage, choices live as long as the page.
}

function keep() {
  try {
    localStorage.setItem(store, JSON.stringify(state));
  } catch {
    // As above.
  }
}

function show() {
  const place = state.votes.length;
  const pair = data.pairs[place];
  part("place").textContent = pair
    ? `Pair ${place + 1} of ${data.pairs.length}`
    : `${data.pairs.length} of ${data.pairs.length} chosen`;
  part("pair").hidden = !pair;
  part("done").hidden = Boolean(pair);
  part("back").disabled = place === 0;
  part("save").disabled = place === 0;
  for (const id of ["question", "first", "second", "right"]) {
    part(id).textContent = pair?.[id] ?? "";
  }
  document.querySelector("details").open = false;
  shown = performance.now();
}

function choose(choice) {
  if (state.votes.length >= data.pairs.length) return;
  const seconds = Math.round(performance.now() - shown) / 1000;
  state.votes.push({pair: state.votes.length, choice, seconds});
  keep();
  show();
}

function back() {
  state.votes.pop();
  keep();
  show();
}

function save() {
  const text = JSON.stringify({page: data.page, ...state}, null, 2) + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "application/json"}));
  link.download = `votes-${state.rater || "unnamed"}.json`;
  link.click();
  URL.revokeObjectURL(link.href);
}

for (const button of document.querySelectorAll("[data-choice]")) {
  button.addEventListener("click", () => choose(Number(button.dataset.choice)));
}
part("back").addEventListener("click", back);
part("save").addEventListener("click", save);
part("rater").value = state.rater;
part("rater").addEventListener("input", () => {
  state.rater = part("rater").value.trim();
  keep();
});
addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input:not([type=radio])");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (["0", "1", "2"].includes(event.key)) choose(Number(event.key));
});
show();
