// SPDX-License-Identifier: Apache-2.0
// The search. Without it the page is whole, but for that.

const field = document.getElementById("find");
const found = document.getElementById("found");
const items = [...document.querySelectorAll(".find")];
const groups = [...document.querySelectorAll("details")];
const sections = [...document.querySelectorAll("main > section")];
const plain = (text) => text.normalize("NFC").toLowerCase();
const nouns = field.dataset.nouns.split(" ");  // Of articles, and of what else is found.
const hasArticles = items.some((item) => item.localName === "article");
const texts = new Map();  // Of each item, made at the first search.

function text(item) {
  if (!texts.has(item)) texts.set(item, plain(item.textContent));
  return texts.get(item);
}

function count(items, noun) {
  return items.length === 1 ? `1 ${noun}` : `${items.length} ${noun}s`;
}

function search() {
  const wanted = plain(field.value);
  const hits = new Set(items.filter((item) => text(item).includes(wanted)));
  for (const group of groups) {
    const inside = [...group.querySelectorAll(".find")];
    if (text(group.firstElementChild).includes(wanted)) {
      for (const item of inside) hits.add(item);
    }
    const has = inside.some((item) => hits.has(item));
    group.open = wanted !== "" && has;
    group.hidden = wanted !== "" && !has;
  }
  for (const item of items) item.hidden = !hits.has(item);
  for (const section of sections) {
    section.hidden = wanted !== "" && !section.querySelector(".find:not([hidden])");
  }
  document.body.classList.toggle("searching", wanted !== "");
  const samples = [...hits].filter((item) => item.localName === "article");
  const others = [...hits].filter((item) => item.localName !== "article");
  const told = hasArticles ? [count(samples, nouns[0])] : [];
  found.textContent = wanted === "" ? "" : [...told, count(others, nouns[1])].join(", ");
}

field.disabled = false;
field.addEventListener("input", search);
field.form.addEventListener("submit", (event) => event.preventDefault());
addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input[type=search]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    field.focus();
  }
  if (event.key === "Escape" && typing) {
    field.value = "";
    search();
  }
});
addEventListener("beforeprint", () => {
  for (const group of groups) group.open = true;
});
