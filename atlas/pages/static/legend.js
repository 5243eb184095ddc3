"use strict";
// Colour by kind, by style, by how well the map kept a point's neighbours (or by what page.schemes holds), or by what
// drives one neuron; the list filters.

atlas.legend = (page) => {
  const { element } = atlas;
  const { rows, points, settings, n } = page;
  const { palette, ramp, heat } = atlas.json("figure");
  const LIMIT = palette.length, STEPS = ramp.length, HEAT = LIMIT + STEPS, WARM = heat.length;
  const list = document.getElementById("legend"), said = document.getElementById("said");
  const schemes = page.schemes || ofRows(), chooser = document.getElementById("colour"); // many are chosen from a list
  const filters = Object.values(schemes);
  let colour = Object.keys(schemes).find((name) => schemes[name].entries.length > 1) || Object.keys(schemes)[0];
  const usual = colour;
  let neuron = -1, lit = null;

  function ofRows() {
    const made = { kind: factor(settings.kinds, rows.kind, page.counts?.kinds), group: factor(rows.groups.all(), rows.group, page.counts?.members) };
    return points.kept ? { ...made, kept: measure() } : made;
  }
  function factor(names, codes, known) { // largest first; what the palette has no room for shares its last entry
    const counts = known || new Uint32Array(names.length);
    if (!known) for (const row of points.row) counts[codes[row]]++;
    const largest = [...names.keys()].filter((code) => counts[code]);
    if (names !== settings.kinds) largest.sort((a, b) => counts[b] - counts[a]);
    const entry = new Uint8Array(names.length), entries = [];
    largest.forEach((code, rank) => {
      entry[code] = Math.min(rank, LIMIT - 1);
      const shared = entries[entry[code]];
      if (shared) Object.assign(shared, { name: "others", count: shared.count + counts[code] });
      else entries.push({ name: names[code] || "no style", count: counts[code], hue: palette[entries.length], shown: true });
    });
    return { of: (i) => entry[codes[points.row[i]]], entries, first: 0 };
  }
  function measure() { // neighbours kept, in fifths
    const fifths = ["0 to 19 %", "20 to 39 %", "40 to 59 %", "60 to 79 %", "80 to 100 %", "not known"];
    const of = (i) => (points.kept[i] > 100 ? 5 : Math.min(4, Math.floor(points.kept[i] / 20)));
    const entries = fifths.map((name, k) => ({ name, count: 0, hue: k < 5 ? ramp[Math.round((k * (STEPS - 1)) / 4)] : palette[LIMIT - 1], shown: true }));
    if (page.counts) page.counts.fifths.forEach((count, k) => { entries[k].count = count; });
    else for (let i = 0; i < n; i++) entries[of(i)].count++;
    if (!entries[5].count) entries.pop();
    return { of, entries, said: "How many of a point's 15 nearest in the model's space the map put among its 15 nearest.", code: (k) => (k < 5 ? LIMIT + Math.round((k * (STEPS - 1)) / 4) : LIMIT - 1) };
  }
  const hidden = () => filters.some((scheme) => scheme.entries.some((entry) => !entry.shown));
  // Whether any of a label's points is shown: its mask has a bit for each combination of kind, style and fifth kept.
  function named({ mask }, k) {
    if (!hidden()) return true;
    const shown = (name, at) => schemes[name]?.entries[at]?.shown ?? true;
    for (let c = 0; c < 8 * mask.width; c++) {
      const there = (mask[k * mask.width + (c >> 3)] >> (c & 7)) & 1;
      if (there && shown("kind", Math.floor(c / 6 / LIMIT)) && shown("group", Math.floor(c / 6) % LIMIT) && shown("kept", c % 6)) return true;
    }
    return false;
  }
  const visible = (i) => filters.every((scheme) => scheme.entries[scheme.of(i)].shown);

  function show() {
    const scheme = schemes[colour];
    for (const button of document.querySelectorAll("[data-colour]")) button.setAttribute("aria-pressed", String(button.dataset.colour === colour));
    list.replaceChildren(...(scheme?.entries || []).map((entry) => element("li", {},
      element("button.entry", { type: "button", "aria-pressed": String(entry.shown), "--hue": entry.hue, onclick: (event) => {
        entry.shown = !entry.shown;
        event.currentTarget.setAttribute("aria-pressed", String(entry.shown));
        page.refresh();
        page.changed();
      } }, element("i"), element("span", {}, entry.name), element("small", {}, entry.count.toLocaleString("en"))))));
    if (chooser) chooser.value = colour;
    said.textContent = scheme?.said || "";
  }
  function paint() {
    const scheme = schemes[colour];
    if (scheme) for (let i = 0; i < n; i++) points.code[i] = scheme.code ? scheme.code(scheme.of(i)) : scheme.of(i);
    else { points.code.fill(LIMIT - 1); for (const [i, code] of lit || []) points.code[i] = code; tell(); }
  }
  function choose(by) {
    if (by !== "neuron" && !schemes[by]) return;
    colour = by;
    if (by !== "neuron") light(-1);
    show();
    page.refresh();
  }

  // -- a neuron: the rows that drive it most are coloured by their activation, all others step back -----------------------

  async function drivers(number) { // the rows, the strongest first, with their shares of the way from least to most
    const { neurons = 0, block, levels } = settings.drivers || {};
    if (number >= neurons) return null;
    const [table] = await Promise.all([atlas.table(`drivers-${Math.floor(number / block)}`), page.located()]);
    const at = number % block, k = table.gap.width, found = [];
    for (let j = at * k, row = 0; j < (at + 1) * k; j++) {
      row += table.gap[j];
      if (page.pointOf[row] >= 0) found.push([page.pointOf[row], table.level[j] / (levels - 1)]);
    }
    return { found: found.sort((a, b) => b[1] - a[1]), least: table.least[at], most: table.most[at] };
  }
  let turn = 0;
  async function light(number) {
    const asked = ++turn, of = number < 0 ? null : await drivers(number);
    if (asked !== turn) return; // another was picked meanwhile
    if (!of) return dark();
    const lines = of.found.map(([i]) => i), names = await atlas.table("neurons");
    await page.bring(lines.slice(0, page.pictured)); // the others light up as their tiles come
    if (asked !== turn) return;
    neuron = number;
    lit = new Map(of.found.map(([i, share]) => [i, HEAT + Math.round(share * (WARM - 1))]));
    page.lit = lines;
    describe(of, names?.label ? names.label.at(number) : "");
    choose("neuron");
    page.light("neuron");
    page.changed();
  }
  function dark() {
    if (neuron < 0) return;
    neuron = -1;
    lit = page.lit = null;
    document.getElementById("neuron").hidden = true;
    page.changed();
  }
  function describe({ found, least, most }, name) {
    const chip = document.getElementById("neuron"), { rows: all, kinds } = settings.drivers;
    const title = element("span", {}, `Neuron ${neuron}  `, element("bdi", {}, name));
    const said = `The ${found.length.toLocaleString("en")} rows that drive neuron ${neuron} most, of ${all.toLocaleString("en")} ${kinds.map((kind) => `${kind}s`).join(" and ")}, by activation.`;
    const figures = [least, (least + most) / 2, most].map((value) => String(Number(value.toPrecision(3))).replace("-", "−"));
    chip.replaceChildren(
      element("div.head", {}, settings.neurons ? element("a.caption", { href: atlas.address(neuron) }, title) : title),
      element("small", {}, said),
      element("div.heat", { role: "img", "aria-label": `Colours from ${figures[0]} to ${figures[2]}; all other points are grey` },
        element("div.ramp", { "--ramp": `linear-gradient(90deg, ${heat.join(", ")})` }), ...figures.map((figure) => element("small", {}, figure))),
      element("small", { id: "unlit" }),
      element("button.quiet", { type: "button", "aria-label": "Stop showing this neuron", onclick: () => { page.leave(chip); choose(usual); } }, "×"));
    chip.hidden = false;
    document.getElementById("live").textContent = said;
  }
  function tell() { // in tiles, not all of them have come
    const line = document.getElementById("unlit"), there = page.lit?.filter(page.placed).length;
    if (line && page.lit) line.textContent = there < page.lit.length ? `${there.toLocaleString("en")} of them are drawn; zoom in for the rest.` : "";
  }

  for (const button of document.querySelectorAll("[data-colour]")) {
    button.hidden = (schemes[button.dataset.colour]?.entries.length || 0) < 2;
    button.addEventListener("click", () => { choose(button.dataset.colour); page.changed(); });
  }
  chooser?.addEventListener("change", () => { choose(chooser.value); page.changed(); });
  document.querySelector(".by").hidden = !chooser?.options.length && !document.querySelector("[data-colour]:not([hidden])");
  const off = () => Object.entries(schemes).flatMap(([name, { entries }]) => entries.flatMap((entry, k) => (entry.shown ? [] : `${name}.${k}`)));
  const state = () => ({ c: colour === usual || colour === "neuron" ? null : colour, neuron: neuron < 0 ? null : neuron, hide: off().join(",") || null });
  async function restore(by, number, hide) {
    const before = off().join();
    for (const { entries } of filters) for (const entry of entries) entry.shown = true;
    for (const [name, k] of (hide || "").split(",").map((part) => part.split("."))) if (schemes[name]?.entries[k]) schemes[name].entries[k].shown = false;
    const wanted = schemes[by] ? by : usual;
    if (colour !== wanted || off().join() !== before) choose(wanted);
    if (number >= 0) await light(number);
  }
  return { visible, hidden, named, plain: () => colour === usual && !hidden(), colour: () => colour, paint, show, choose, light, state, restore };
};
