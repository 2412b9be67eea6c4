"use strict";
// The table is complete without this script, which only sorts and filters it.
{
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const find = document.getElementById("find");
  const selects = [...document.querySelectorAll("select[data-column]")];
  const count = document.getElementById("count");

  const value = (row, column) => {
    const text = row.cells[column].dataset.value;
    return text === "" ? null : text;
  };

  // Missing values come last in either order.
  const compare = (column, figures, down) => (one, other) => {
    const a = value(one, column);
    const b = value(other, column);
    if (a === null || b === null) return (a === null) - (b === null);
    const order = figures ? Number(a) - Number(b) : a.localeCompare(b);
    return down ? -order : order;
  };

  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent.trim();
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...[...rows].sort(compare(column, head.classList.contains("figure"), down)));
    });
  });

  const filter = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const wanted = selects.every((one) => !one.value || row.cells[one.dataset.column].textContent === one.value);
      row.hidden = !(wanted && words.every((word) => text.includes(word)));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = shown === rows.length ? "" : `${shown} of ${rows.length}`;
  };

  const form = document.querySelector("form.controls");
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = rows.length < 2;
}
