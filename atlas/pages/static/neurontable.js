// @ts-check
"use strict";
// The table of all neurons: sorts by a column, and lists only those that were found.

atlas.list = (() => {
  const body = atlas.one(".sheet tbody"),
    heads = [...atlas.all(".sheet thead th")];
  const lines = [...body.rows]; // by neuron, however the table is sorted
  const value = (text) =>
    text === "–" ? -Infinity : Number(text.replace("−", "-").replace("< ", "").replaceAll(",", ""));

  heads.forEach((head, column) =>
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending" || (!head.hasAttribute("aria-sort") && column < 2);
      const key = (line) => (column === 1 ? line.cells[1].textContent : value(line.cells[column].textContent));
      const keyed = lines.map((line) => [key(line), line]);
      keyed.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1));
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...keyed.map(([, line]) => line));
    }),
  );
  function cut(keep) {
    lines.forEach((line, i) => {
      line.hidden = !keep(i);
    });
  }
  return { cut };
})();
