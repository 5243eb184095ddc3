"use strict";
// The neuron atlas: neurons by their strongest image, coloured by a statistic; a box to find one; the table.
// The address keeps what is seen: #v=x,y,span&neuron=12&q=cat&by=skew.

(async () => {
  const { element, words } = atlas;
  const neurons = await atlas.table("neurons");
  const { palette, ramp } = atlas.json("figure"), settings = atlas.json("settings");
  const byId = (id) => document.getElementById(id);
  const labels = neurons.label.all(), said = neurons.words.all(), u = labels.length;
  const k = neurons.top.width;
  const state = new URLSearchParams(location.hash.slice(1));
  let scatter = null, chosen = -1;

  function cover(i, at = 0, tag = "i", attributes = {}) {
    const j = i * k + at, place = neurons.at[j];
    return element(`${tag}.t.s${neurons.sheet[j]}${place < 0 ? "" : ".m"}`, { "--n": neurons.cell[j], "--m": place, ...attributes });
  }
  const covers = (i) => Array.from({ length: k }, (_, at) => cover(i, at));
  const figure = (value) => (Number.isNaN(value) ? "–" : value.toPrecision(3).replace("-", "−"));
  const all = () => Uint32Array.from({ length: u }, (_, i) => i);
  function keep(name, value) {
    if (value === "" || value === null) state.delete(name); else state.set(name, value);
    history.replaceState(null, "", state.size ? `#${String(state).replaceAll("%2C", ",")}` : location.pathname);
  }

  // -- colour by a statistic: on a ramp between its 2nd and 98th hundredth, so that no single neuron takes all of it ------

  const FIRST = palette.length, STEPS = ramp.length, CROWD = 150; // a ramp's codes follow the palette's; pictures hide colours where there are many
  const title = () => byId("statistic")?.selectedOptions[0].textContent;
  function paint() {
    const by = byId("statistic")?.value, values = by && neurons[by];
    if (scatter) byId("scale").hidden = !values;
    view.room = values ? CROWD : Infinity;
    if (values) {
      const sorted = values.filter((value) => !Number.isNaN(value)).sort();
      const [low, high] = [0.02, 0.98].map((share) => sorted[Math.floor(share * (sorted.length - 1))]);
      const step = (value) => Math.min(STEPS - 1, Math.max(0, Math.floor(((value - low) / (high - low || 1)) * STEPS)));
      neurons.code = Uint8Array.from(values, (value) => (Number.isNaN(value) ? FIRST - 1 : FIRST + step(value)));
      const [least, bar, most] = byId("scale").children;
      least.textContent = figure(low);
      most.textContent = figure(high);
      bar.style.background = `linear-gradient(90deg, ${ramp.join(", ")})`;
    } else neurons.code = new Uint8Array(u);
    find();
  }
  function colour() {
    keep("by", byId("statistic").value);
    paint();
  }

  // -- one neuron ---------------------------------------------------------------------------------------------------------

  const about = (i) => [said[i] && said[i] !== labels[i] ? said[i] : "", byId("statistic")?.value ? `${title()} ${figure(neurons[byId("statistic").value][i])}` : ""].filter(Boolean);
  const hover = (i, x, y) => atlas.show(x, y, true, element("div", {}, element("strong", {}, `Neuron ${i}`), element("small.caption", {}, labels[i])),
    element("div.row", {}, ...covers(i)), ...about(i).map((line) => element("small.caption", {}, line)));
  const open = (i) => { location.href = atlas.address(i); };
  function choose(i, fly = false) {
    chosen = i;
    const near = neurons.near ? [...neurons.near.subarray(i * neurons.near.width, (i + 1) * neurons.near.width)] : [];
    byId("card").replaceChildren(...[
      element("button.quiet", { type: "button", "aria-label": "Close", onclick: close }, "×"),
      element("div.head", {}, cover(i), element("div", {}, element("div.caption", {}, `Neuron ${i}`), element("small.caption", {}, labels[i]))),
      element("div.strip", {}, ...covers(i)), ...about(i).map((line) => element("small.caption", {}, line)),
      near.length ? element("div", {}, element("h2", {}, "Neurons that answer alike"), element("div.strip.six", {}, ...near.map((other) =>
        cover(other, 0, "button", { type: "button", title: `${other}: ${labels[other]}`, "aria-label": `Neuron ${other}: ${labels[other]}`, onclick: () => choose(other, true) })))) : null,
      element("p.ways", {}, element("a", { href: atlas.address(i) }, "Open its card"), " ", settings.map ? element("a", { href: `${settings.map}#neuron=${i}` }, "Show on the map") : ""),
    ].filter(Boolean));
    byId("card").hidden = false;
    scatter.mark([i]);
    if (fly) scatter.fly(i);
    keep("neuron", i);
  }
  function close() {
    if (byId("card").contains(document.activeElement)) byId("atlas").focus({ preventScroll: true });
    byId("card").hidden = true;
    scatter.mark([]);
    chosen = -1;
    keep("neuron", null);
  }
  function walk(event) { // to the nearest neuron within 45 degrees of the arrow
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] || [0, 0];
    if (event.key === "Enter" && chosen >= 0) return open(chosen);
    if (event.key === "Escape") return close();
    if (!dx && !dy) return;
    event.preventDefault();
    let best = chosen < 0 ? 0 : chosen, reach = Infinity;
    for (let i = 0; i < u && chosen >= 0; i++) {
      const [x, y] = [neurons.x[i] - neurons.x[chosen], neurons.y[i] - neurons.y[chosen]];
      const along = x * dx + y * dy, aside = Math.abs(x * dy) + Math.abs(y * dx);
      if (along > aside && along < reach) { reach = along; best = i; }
    }
    choose(best, true);
  }

  // -- find ---------------------------------------------------------------------------------------------------------------

  const lines = [...document.querySelectorAll("tbody tr")];
  const lower = labels.map((label, i) => `${label} ${said[i]}`.toLowerCase());
  function find() {
    const wanted = words(byId("query").value);
    const matches = (i) => wanted.every((word) => (/^\d+$/.test(word) ? String(i) === word : lower[i].includes(word)));
    const found = wanted.length ? all().filter(matches) : all();
    const inside = new Set(found);
    lines.forEach((line, i) => { line.hidden = !inside.has(i); });
    byId("found").textContent = wanted.length ? `${found.length.toLocaleString("en")} found` : "";
    byId("results").hidden = !wanted.length || !found.length;
    byId("results").replaceChildren(...(wanted.length ? [...found.slice(0, 8)] : []).map((i) => element("a.line", { href: atlas.address(i) },
      cover(i), element("span", {}, `${i}  `, element("bdi", {}, labels[i])))));
    scatter?.fill(found);
    scatter?.light(wanted.length ? found : null);
  }
  byId("query").addEventListener("input", () => { keep("q", byId("query").value); find(); });
  byId("query").addEventListener("keydown", (event) => {
    const first = lines.findIndex((line) => !line.hidden);
    if (event.key === "Enter" && first >= 0) open(first);
  });

  // -- sort: the rows' own order is remembered, since `lines` goes by neuron -------------------------------------------------

  const value = (text) => (text === "–" ? -Infinity : Number(text.replace("−", "-").replace("< ", "").replaceAll(",", "")));
  const heads = [...document.querySelectorAll("thead th")];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") === "descending" || (!head.hasAttribute("aria-sort") && column < 2);
    const key = (line) => (column === 1 ? line.cells[1].textContent : value(line.cells[column].textContent));
    const keyed = lines.map((line) => [key(line), line]);
    keyed.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1));
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    document.querySelector("tbody").append(...keyed.map(([, line]) => line));
  }));

  // -- start ----------------------------------------------------------------------------------------------------------------

  let timer = 0;
  const view = {
    room: Infinity,
    side: 34,
    pad: 40,
    spot: (i) => ({ sheet: neurons.sheet[i * k], x: neurons.cell[i * k] % atlas.SHEET, y: Math.floor(neurons.cell[i * k] / atlas.SHEET) }),
    hover,
    pick: open,
    moved: () => { // browsers refuse hundreds of changes of the address a minute
      clearTimeout(timer);
      timer = setTimeout(() => scatter && keep("v", scatter.seen().map(Math.round).join(",")), 250);
    },
  };
  byId("query").value = state.get("q") || "";
  if (neurons.x && byId("atlas")) {
    neurons.code = new Uint8Array(u);
    scatter = await atlas.scatter("atlas", neurons, view);
    const plot = byId("atlas");
    plot.tabIndex = 0;
    plot.setAttribute("role", "application");
    plot.setAttribute("aria-label", "Map of neurons: arrows walk from neuron to neuron, Enter opens a card");
    plot.addEventListener("keydown", walk);
    const options = [...byId("statistic").options].map((option) => option.value);
    if (options.includes(state.get("by"))) byId("statistic").value = state.get("by");
    byId("statistic").addEventListener("change", colour);
    paint();
    const wanted = Number(state.get("neuron") ?? -1);
    const seen = (state.get("v") || "").split(",").map(Number);
    if (Number.isInteger(wanted) && wanted >= 0 && wanted < u) choose(wanted, true);
    if (seen.length === 3 && seen.every(Number.isFinite) && seen[2] > 0) scatter.look(...seen);
  } else find();
  document.body.dataset.ready = "";
  atlas.page = { scatter, points: neurons, choose };
})();
