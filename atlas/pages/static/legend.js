// @ts-check
"use strict";
// The legend: colours the points by a scheme of the settings, or by a neuron's activations. Its entries are filters.

atlas.legend = (page) => {
  const { element } = atlas;
  const { points, settings, n } = page;
  const { palette, ramp, heat } = settings,
    hues = [...palette, ...ramp];
  const GREY = palette.length - 1,
    HEAT = hues.length,
    WARM = heat.length;
  const list = atlas.byId("legend"),
    said = atlas.byId("said"),
    chooser = atlas.byId("colour"); // where the schemes are many
  const schemes = Object.fromEntries(settings.legend.map((scheme) => [scheme.name, filtered(scheme)]));
  const filters = Object.values(schemes),
    usual = settings.colour;
  let colour = usual,
    neuron = -1,
    lit = null;

  const panel = atlas.lit(page);
  function filtered({ name, about, entries, of }) {
    const value = page.reader(name);
    return {
      about,
      entries: entries.map((entry) => ({ ...entry, shown: true })),
      of: of ? (i) => of[value(i)] : value,
    };
  }
  const hidden = () => filters.some((scheme) => scheme.entries.some((entry) => !entry.shown));
  // Whether any of a name's points is shown: its mask has a bit for each combination of entries of the schemes.
  function named({ mask }, k) {
    if (!hidden()) return true;
    const shown = (name, at) => schemes[name]?.entries[at]?.shown ?? true;
    for (let c = 0; c < 8 * mask.width; c++) {
      const there = (mask[k * mask.width + (c >> 3)] >> (c & 7)) & 1;
      if (there && settings.mask.every(([name, stride, size]) => shown(name, Math.floor(c / stride) % size)))
        return true;
    }
    return false;
  }
  // A row whose tile was not read yet has no entry: it passes until its kind is known.
  const visible = (i) => filters.every((scheme) => scheme.entries[scheme.of(i)]?.shown ?? true);

  function show() {
    const scheme = schemes[colour];
    for (const button of atlas.all("[data-colour]"))
      button.setAttribute("aria-pressed", String(button.dataset.colour === colour));
    list.replaceChildren(
      ...(scheme?.entries || []).map((entry) =>
        element(
          "li",
          {},
          element(
            "button.entry",
            {
              type: "button",
              "aria-pressed": String(entry.shown),
              "--hue": hues[entry.hue],
              onclick: (event) => {
                entry.shown = !entry.shown;
                event.currentTarget.setAttribute("aria-pressed", String(entry.shown));
                page.refresh();
                page.changed();
              },
            },
            element("i"),
            element("span", {}, entry.name),
            element("small", {}, entry.count.toLocaleString("en")),
          ),
        ),
      ),
    );
    if (chooser) chooser.value = colour;
    said.textContent = scheme?.about || "";
  }
  function paint() {
    const scheme = schemes[colour];
    if (scheme) {
      const codes = scheme.entries.map((entry) => entry.hue);
      for (let i = 0; i < n; i++) points.code[i] = codes[scheme.of(i)];
    } else {
      points.code.fill(GREY);
      for (const [i, code] of lit || []) points.code[i] = code;
      panel.tell();
    }
  }
  function choose(by) {
    if (by !== "neuron" && !schemes[by]) return;
    colour = by;
    if (by !== "neuron") light(-1);
    show();
    page.refresh();
  }

  // -- a neuron: the rows that activate it most are coloured by activation, all others are grey -----------------------

  async function drivers(number) {
    // the points, the strongest first, each with its activation as a share of the range
    const { neurons = 0, block, levels } = settings.drivers || {};
    if (number >= neurons) return null;
    const [table] = await Promise.all([atlas.table(`drivers-${Math.floor(number / block)}`), page.located()]);
    const at = number % block,
      k = table.gap.width,
      found = [],
      drawn = []; // the point of each row
    for (let j = at * k, row = 0; j < (at + 1) * k; j++) {
      row += table.gap[j];
      drawn.push(page.pointOf[row] ?? -1);
      if (page.pointOf[row] >= 0) found.push([page.pointOf[row], table.level[j] / (levels - 1)]);
    }
    const { strip } = table; // the strongest without repeats, as places among the rows in their order
    const chosen = Array.from(strip.subarray(at * strip.width, (at + 1) * strip.width), (place) => drawn[place]);
    return {
      found: found.sort((a, b) => b[1] - a[1]),
      strip: chosen.filter((i) => i >= 0),
      least: table.least[at],
      most: table.most[at],
    };
  }
  let turn = 0;
  async function light(number) {
    const asked = ++turn,
      of = number < 0 ? null : await drivers(number);
    if (asked !== turn) return; // another neuron was picked meanwhile
    if (!of) return dark();
    const lines = of.found.map(([i]) => i),
      names = await atlas.table("neurons");
    await page.bring(lines.slice(0, page.pictured)); // the others follow when their tiles are read
    await page.need([...lines.slice(0, page.pictured), ...of.strip]);
    if (asked !== turn) return;
    neuron = number;
    lit = new Map(of.found.map(([i, share]) => [i, HEAT + Math.round(share * (WARM - 1))]));
    page.lit = lines;
    panel.describe(number, of, names, () => choose(usual));
    choose("neuron");
    page.light("neuron");
    page.changed();
  }
  function dark() {
    if (neuron < 0) return;
    neuron = -1;
    lit = page.lit = null;
    atlas.byId("neuron").hidden = true;
    page.changed();
  }
  for (const button of atlas.all("[data-colour]")) {
    button.hidden = (schemes[button.dataset.colour]?.entries.length || 0) < 2;
    button.addEventListener("click", () => {
      choose(button.dataset.colour);
      page.changed();
    });
  }
  chooser?.addEventListener("change", () => {
    choose(chooser.value);
    page.changed();
  });
  atlas.one(".by").hidden = !chooser?.options.length && !atlas.one("[data-colour]:not([hidden])");
  const off = () =>
    Object.entries(schemes).flatMap(([name, { entries }]) =>
      entries.flatMap((entry, k) => (entry.shown ? [] : `${name}.${k}`)),
    );
  const state = () => ({
    c: colour === usual || colour === "neuron" ? null : colour,
    neuron: neuron < 0 ? null : neuron,
    hide: off().join(",") || null,
  });
  async function restore(by, number, hide) {
    const before = off().join();
    for (const { entries } of filters) for (const entry of entries) entry.shown = true;
    for (const [name, k] of (hide || "").split(",").map((part) => part.split(".")))
      if (schemes[name]?.entries[k]) schemes[name].entries[k].shown = false;
    const wanted = schemes[by] ? by : usual;
    if (colour !== wanted || off().join() !== before) choose(wanted);
    if (number >= 0) await light(number);
  }
  return {
    visible,
    hidden,
    named,
    plain: () => colour === usual && !hidden(),
    colour: () => colour,
    paint,
    show,
    choose,
    light,
    state,
    restore,
  };
};
