"use strict";
// The neuron atlas: neurons by their strongest image, a box to find one, and the table that sorts and filters.

(async () => {
  const { element, words } = atlas;
  const settings = atlas.json("settings");
  const [rows, neurons] = await Promise.all([atlas.rows(settings.kinds), atlas.table("neurons")]);
  const byId = (id) => document.getElementById(id);
  const k = neurons.top.width, labels = neurons.label.all();
  const cover = (i, at) => rows.thumb(neurons.top[i * k + at], "i", {}, neurons.at[i * k + at]);
  const covers = (i) => Array.from({ length: k }, (_, at) => cover(i, at));
  let scatter = null;

  if (neurons.x && byId("atlas")) {
    neurons.code = new Uint8Array(neurons.x.length);
    scatter = await atlas.scatter("atlas", neurons, {
      room: Infinity,
      side: 34,
      pad: 40,
      spot: (i) => rows.spot(neurons.top[i * k]),
      hover: (i, x, y) => atlas.show(x, y, true, element("div", {}, element("strong", {}, `Neuron ${i}`),
        element("small.caption", {}, labels[i])), element("div.row", {}, ...covers(i))),
      pick: (i) => { location.href = atlas.address(i); },
    });
    scatter.fill(Uint32Array.from(neurons.x.keys()));
  }

  // -- find ---------------------------------------------------------------------------------------------------------

  const body = document.querySelector("tbody");
  const lines = [...body.rows];
  const lower = labels.map((label) => label.toLowerCase());
  function find() {
    const wanted = words(byId("query").value);
    const matches = (i) => wanted.every((word) => (/^\d+$/.test(word) ? String(i) === word : lower[i].includes(word)));
    const found = labels.map((_, i) => i).filter(matches);
    lines.forEach((line, i) => { line.hidden = !matches(i); });
    byId("found").textContent = wanted.length ? `${found.length.toLocaleString("en")} found` : "";
    scatter?.light(wanted.length ? Uint32Array.from(found) : null);
    scatter?.fill(Uint32Array.from(wanted.length ? found : neurons.x.keys()));
    card(wanted.length ? found.slice(0, 6) : []);
  }
  function card(found) {
    const target = byId("card");
    if (!target) return;
    target.hidden = !found.length;
    target.replaceChildren(element("div.list", {}, ...found.map((i) => element("a.line", { href: atlas.address(i) },
      cover(i, 0), element("span", {}, `${i}  `, element("bdi", {}, labels[i]))))));
  }
  byId("query").addEventListener("input", find);
  byId("query").addEventListener("keydown", (event) => {
    const first = lines.find((line) => !line.hidden);
    if (event.key === "Enter" && first) location.href = first.querySelector("a").getAttribute("href");
  });

  // -- sort ---------------------------------------------------------------------------------------------------------

  const figure = (text) => (text === "–" ? -Infinity : Number(text.replace("−", "-").replaceAll(",", "")));
  const heads = [...document.querySelectorAll("thead th")];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") === "descending" || (!head.hasAttribute("aria-sort") && column < 2);
    const value = (line) => (column === 1 ? line.cells[1].textContent : figure(line.cells[column].textContent));
    const keyed = lines.map((line) => [value(line), line]);
    keyed.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1));
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...keyed.map(([, line]) => line));
  }));
  document.body.dataset.ready = "";
  atlas.page = { scatter, points: neurons };
})();
