"use strict";
// The map of all rows: legend, search, card. The address keeps the card (#12) and the query (#q=cat).

(async () => {
  const { element, words } = atlas;
  const settings = atlas.json("settings");
  const { palette } = atlas.json("figure");
  const [rows, points, neurons] = await Promise.all([atlas.rows(settings.kinds), atlas.table("map"), atlas.table("neurons")]);
  const byId = (id) => document.getElementById(id);
  const n = points.x.length;
  const pointOf = new Int32Array(rows.length).fill(-1);
  points.row.forEach((row, i) => { pointOf[row] = i; });
  points.code = new Uint8Array(n);

  // Points are drawn in a scattered order, so that no kind lies wholly on top of another.
  const order = (() => {
    let stride = Math.floor(n * 0.6180339) | 1;
    const shared = (a, b) => (b ? shared(b, a % b) : a);
    while (shared(n, stride) > 1) stride += 2;
    return Uint32Array.from({ length: n }, (_, i) => (i * stride) % n);
  })();

  // -- legend -----------------------------------------------------------------------------------------------------------

  const LIMIT = palette.length;
  const schemes = { kind: scheme(settings.kinds, rows.kind), group: scheme(rows.groups.all(), rows.group) };
  let colour = "kind";

  function scheme(names, codes) { // largest first; what the palette has no room for shares its last entry
    const counts = new Uint32Array(names.length);
    for (const row of points.row) counts[codes[row]]++;
    const largest = [...names.keys()].filter((code) => counts[code]);
    if (names !== settings.kinds) largest.sort((a, b) => counts[b] - counts[a]);
    const entry = new Uint8Array(names.length);
    const entries = [];
    largest.forEach((code, rank) => {
      entry[code] = Math.min(rank, LIMIT - 1);
      const shared = entries[entry[code]];
      if (shared) Object.assign(shared, { name: "others", count: shared.count + counts[code] });
      else entries.push({ name: names[code] || "no style", count: counts[code], shown: true });
    });
    return { codes, entry, entries };
  }
  const entryOf = (row, by = colour) => schemes[by].entry[schemes[by].codes[row]];
  const visible = (i) => ["kind", "group"].every((by) => schemes[by].entries[entryOf(points.row[i], by)].shown);

  function legend() {
    byId("legend").replaceChildren(...schemes[colour].entries.map((entry, at) => element("li", {},
      element("button.entry", { type: "button", "aria-pressed": String(entry.shown), "--hue": palette[at], onclick: (event) => {
        entry.shown = !entry.shown;
        event.currentTarget.setAttribute("aria-pressed", String(entry.shown));
        refresh();
      } }, element("i"), element("span", {}, entry.name), element("small", {}, entry.count.toLocaleString("en"))))));
  }
  function refresh() {
    for (let i = 0; i < n; i++) points.code[i] = entryOf(points.row[i]);
    scatter.fill(order.filter(visible));
    if (hits) scatter.light(Uint32Array.from(hits.filter(visible)));
  }
  for (const button of document.querySelectorAll("[data-colour]")) button.addEventListener("click", () => {
    colour = button.dataset.colour;
    for (const other of document.querySelectorAll("[data-colour]")) other.setAttribute("aria-pressed", String(other === button));
    legend();
    refresh();
  });

  // -- card -------------------------------------------------------------------------------------------------------------

  const line = (row) => element("button.line", { type: "button", onclick: () => pick(pointOf[row], true) },
    rows.thumb(row), element("span.caption", {}, rows.name(row)), element("small", {}, rows.about(row)));

  function pick(i, fly = false) {
    if (i < 0) return;
    const row = points.row[i], k = points.near.width;
    const near = [...points.near.subarray(i * k, (i + 1) * k)].filter((other) => pointOf[other] >= 0);
    byId("card").replaceChildren(...[
      element("button.quiet", { type: "button", "aria-label": "Close card", onclick: close }, "×"),
      element("div.head", {}, rows.thumb(row), element("div", {},
        element("div.caption", {}, rows.name(row)), element("small", {}, rows.about(row)))),
      element("div", {}, element("h3", {}, "Nearest in the model's space"),
        element("div.strip", {}, ...near.map((other) => rows.thumb(other, "button",
          { type: "button", title: `${rows.name(other)} · ${rows.about(other)}`, onclick: () => pick(pointOf[other], true) })))),
      strongest(i),
      kept(i)].filter(Boolean));
    byId("card").hidden = false;
    scatter.mark([i]);
    if (fly) scatter.fly(i);
    history.replaceState(null, "", `#${row}`);
  }
  function strongest(i) {
    const k = points.neuron?.width, found = points.neuron?.subarray(i * k, (i + 1) * k).filter((neuron) => neuron >= 0);
    if (!found?.length) return null;
    return element("div", {}, element("h3", {}, "Neurons furthest above their mean"), element("div.list", {},
      ...Array.from(found, (neuron, at) => element("a.line", { href: atlas.address(neuron) },
        element("span", {}, `${neuron}  `, element("bdi", {}, neurons ? neurons.label.at(neuron) : "")),
        element("small", {}, `+${(points.strength[i * k + at] / 10).toFixed(1)} std`)))));
  }
  function kept(i) {
    if (!points.kept || points.kept[i] > 100) return null;
    return element("small", {}, `The map kept ${points.kept[i]} % of its true neighbours near it.`);
  }
  function close() {
    byId("card").hidden = true;
    scatter.mark([]);
    history.replaceState(null, "", location.pathname);
  }

  // -- search -----------------------------------------------------------------------------------------------------------

  const haystack = [rows.captions.all(), rows.groups.all()].map((all) => all.map((text) => text.toLowerCase()));
  let hits = null;
  function search() {
    const wanted = words(byId("query").value);
    hits = wanted.length ? [] : null;
    if (hits) {
      const has = (level, word) => level.map((text) => text.includes(word));
      const tests = wanted.map((word) => haystack.map((level) => has(level, word)));
      for (let i = 0; i < n; i++) {
        const row = points.row[i];
        if (tests.every(([caption, group]) => caption[rows.caption[row]] || group[rows.group[row]])) hits.push(i);
      }
    }
    const listed = hits ? hits.slice(0, 60) : [];
    byId("found").textContent = hits ? `${hits.length.toLocaleString("en")} found${hits.length > 60 ? ", the first 60 listed" : ""}` : "";
    byId("results").hidden = !listed.length;
    byId("results").replaceChildren(...listed.map((i) => element("li", {}, line(points.row[i]))));
    scatter.light(hits && Uint32Array.from(hits.filter(visible)));
  }
  byId("query").addEventListener("input", search);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    if (event.key === "/" && document.activeElement !== byId("query")) { event.preventDefault(); byId("query").focus(); }
  });

  // -- start ------------------------------------------------------------------------------------------------------------

  const scatter = await atlas.scatter("map", points, {
    room: 2500,
    side: 30,
    spot: (i) => rows.spot(points.row[i]),
    hover: (i, x, y) => {
      const row = points.row[i];
      const text = element("div", {}, element("span.caption", {}, rows.name(row)), element("small", {}, rows.about(row)));
      atlas.show(x, y, false, ...(rows.sheet[row] >= 0 ? [rows.thumb(row), text] : [text]));
    },
    pick,
  });
  legend();
  refresh();
  function follow() {
    const hash = decodeURIComponent(location.hash.slice(1));
    if (/^\d+$/.test(hash) && hash < rows.length) pick(pointOf[hash], true);
    if (hash.startsWith("q=")) { byId("query").value = hash.slice(2); search(); }
  }
  addEventListener("hashchange", follow);
  follow();
  document.body.dataset.ready = "";
  atlas.page = { scatter, points, rows, pick };
})();
