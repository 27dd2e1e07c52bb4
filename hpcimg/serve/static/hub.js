"use strict";
// The page works without this: links lead to whole pages. With it, reasons open in place, arrow
// keys walk the table, and "/" goes to the search.
const dialog = document.getElementById("why");

async function show(link) {
  const answer = await fetch(link.href);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const section = page.getElementById("explained");
  if (!answer.ok || !section) { location.href = link.href; return; }
  dialog.firstElementChild.replaceChildren(section);
  dialog.showModal();
  dialog.querySelector("button").focus();
}

function walk(link, key) {
  const cell = link.closest("td"), row = cell.parentElement;
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[key];
  const rows = row.parentElement.rows;
  const next = rows[row.sectionRowIndex + step[0]]?.cells[cell.cellIndex + step[1]]?.querySelector("a");
  if (next) next.focus();
  return Boolean(next);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest(".grid td a");
  if (link && dialog && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    show(link);
  }
});

document.addEventListener("keydown", (event) => {
  const link = event.target.closest(".grid td a");
  if (link && event.key.startsWith("Arrow")) {
    if (walk(link, event.key)) event.preventDefault();
  } else if (event.key === "/" && !event.target.closest("input, select")) {
    event.preventDefault();
    document.querySelector("input[type=search]")?.focus();
  }
});

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});
