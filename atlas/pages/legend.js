"use strict";
// Colour by kind, by style, by how well the map kept a point's neighbours (or by what page.schemes holds), or by what
// drives one neuron; the list filters.

atlas.legend = (page) => {
  const { element } = atlas;
  const { rows, points, settings, n } = page;
  const { palette, ramp } = atlas.json("figure");
  const LIMIT = palette.length, STEPS = ramp.length;
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
    else { points.code.fill(LIMIT - 1); for (const [i, code] of lit || []) points.code[i] = code; }
  }
  function choose(by) {
    if (by !== "neuron" && !schemes[by]) return;
    colour = by;
    if (by !== "neuron") light(-1);
    show();
    page.refresh();
  }

  // -- a neuron: the rows that drive it most light up, by how many standard deviations ----------------------------------

  async function light(number) {
    const chip = document.getElementById("neuron");
    const drivers = number < 0 ? null : await atlas.table("drivers");
    if (drivers) await page.located();
    if (!drivers || number * drivers.row.width >= drivers.row.length) {
      if (neuron >= 0) { neuron = -1; lit = null; chip.hidden = true; page.lit = null; page.changed(); }
      return;
    }
    const k = drivers.row.width, found = new Map();
    for (let at = number * k; at < (number + 1) * k; at++) {
      const i = drivers.row[at] < 0 ? -1 : page.pointOf[drivers.row[at]];
      if (i >= 0) found.set(i, drivers.strength[at]);
    }
    const most = Math.max(1, ...found.values()), least = Math.min(most, ...found.values());
    neuron = number;
    lit = new Map([...found].map(([i, z]) => [i, LIMIT + Math.round(((z - least) / (most - least || 1)) * (STEPS - 1))]));
    page.lit = [...found.keys()];
    await Promise.all([describe(number, found.size, least, most), page.bring(page.lit)]);
    choose("neuron");
    page.light("neuron");
    page.changed();
  }
  async function describe(number, count, least, most) {
    const chip = document.getElementById("neuron"), names = await atlas.table("neurons");
    const title = element("span", {}, `Neuron ${number}  `, element("bdi", {}, names?.label ? names.label.at(number) : ""));
    chip.replaceChildren(
      element("div.head", {}, settings.neurons ? element("a.caption", { href: atlas.address(number) }, title) : title),
      element("small", {}, `${count} rows that drive it most, ${(least / 10).toFixed(1)} to ${(most / 10).toFixed(1)} standard deviations above its mean.`),
      element("div.ramp", { "aria-hidden": "true", "--ramp": `linear-gradient(90deg, ${ramp.join(", ")})` }),
      element("button.quiet", { type: "button", "aria-label": "Stop showing this neuron", onclick: () => { page.leave(chip); choose(usual); } }, "×"));
    chip.hidden = false;
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
