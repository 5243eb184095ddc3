// @ts-check
"use strict";
// What is shown of a neuron while it lights the map: its strongest rows without repeats, a slider from weakest to
// strongest, and its place among the neurons.

atlas.lit = (page) => {
  const { element } = atlas;
  const { settings, points, rows } = page,
    chip = atlas.byId("neuron"),
    live = atlas.byId("live");
  let turn = 0; // of the slider

  const figure = (value) => String(Number(value.toPrecision(3))).replace("-", "−");
  function tile(i) {
    const title = [rows.name(points.row[i]), rows.about(points.row[i])].join(" · ");
    const act = { type: "button", title, "aria-label": title, onclick: () => page.pick(i, true) };
    return rows.thumb(points.row[i], "button", act);
  }

  // -- from weakest to strongest: the tenths of its range, which its card has too -------------------------------------

  async function card(neuron) {
    const { shard, first } = settings.cards;
    const table = await atlas.table(atlas.numbered(first, Math.floor(neuron / shard)));
    return JSON.parse(table.card.at(neuron % shard));
  }
  function slider(neuron, strip, strongest) {
    const kinds = settings.drivers.kinds.map((kind) => `${kind}s`).join(" and "),
      said = element("small", { role: "status" }, "Its strongest, each once"),
      steps = 11; // ten tenths of the range, and the strongest of all
    async function show(step) {
      const asked = ++turn;
      if (step === steps) {
        strip.replaceChildren(...strongest.map(tile));
        said.textContent = "Its strongest, each once";
        return;
      }
      const { kinds: of } = await card(neuron),
        bands = Object.values(of).map((stat) => stat.bands[step - 1]);
      await page.located();
      const found = bands.flatMap((band) => band.rows.map((row) => page.pointOf[row])).filter((i) => i >= 0);
      await page.bring(found);
      await page.need(found);
      if (asked !== turn) return;
      const count = bands.reduce((total, band) => total + band.count, 0);
      strip.replaceChildren(...found.map(tile));
      said.textContent =
        `Tenth ${step} of 10 of its range: ${count.toLocaleString("en")} ${kinds}` +
        (count > found.length ? `, ${found.length} at random` : "");
    }
    const range = element("input", {
      type: "range",
      min: "1",
      max: String(steps),
      value: String(steps),
      "aria-label": "From weakest to strongest",
      oninput: (event) => show(Number(event.target.value)),
    });
    return element("label.slider", {}, element("span", {}, "Least"), range, element("span", {}, "Most"), said);
  }

  // -- its place among the neurons ------------------------------------------------------------------------------------

  function place(neuron, names) {
    const text = "Its place among the neurons";
    if (!names?.x) return element("a", { href: `neurons.html#p=${neuron}` }, text);
    const { edge } = settings.places,
      share = (value) => `${(50 * (value + edge)) / edge}%`;
    return element(
      "a.among",
      { href: `neurons.html#p=${neuron}` },
      element(
        "span",
        { "aria-hidden": "true" },
        element("img", { src: "assets/neurons.webp", alt: "", width: "64", height: "64" }),
        element("i", { style: `left:${share(names.x[neuron])};top:${share(-names.y[neuron])}` }),
      ),
      text,
    );
  }

  function describe(neuron, { found, strip: strongest, least, most }, names, close) {
    const { rows: all, kinds } = settings.drivers,
      { heat } = settings;
    const label = names?.label ? names.label.at(neuron) : "",
      title = element("span", {}, `Neuron ${neuron} · `, element("bdi", {}, label));
    const sentence =
      `Lit: the ${found.length.toLocaleString("en")} ${kinds.map((kind) => `${kind}s`).join(" and ")} ` +
      `that activate it most, of ${all.toLocaleString("en")}.`;
    const figures = [least, (least + most) / 2, most].map(figure);
    const strip = element(
      "div.strip.many",
      { role: "group", "aria-label": "What activates it" },
      ...strongest.map(tile),
    );
    turn++;
    chip.replaceChildren(
      element("h2.head", {}, settings.neurons ? element("a.caption", { href: atlas.address(neuron) }, title) : title),
      strip,
      settings.cards ? slider(neuron, strip, strongest) : "",
      element(
        "div.heat",
        { role: "img", "aria-label": `Colours from ${figures[0]} to ${figures[2]}; all other points are grey` },
        element("div.ramp", { "--ramp": `linear-gradient(90deg, ${heat.join(", ")})` }),
        ...figures.map((value) => element("small", {}, value)),
      ),
      element("small", {}, sentence),
      element("small", { id: "unlit" }),
      settings.neurons
        ? element("p.ways", {}, element("a", { href: atlas.address(neuron) }, "Open its card"), place(neuron, names))
        : "",
      element(
        "button.quiet",
        {
          type: "button",
          "aria-label": "Stop showing this neuron",
          onclick: () => {
            page.leave(chip);
            close();
          },
        },
        "×",
      ),
    );
    chip.hidden = false;
    atlas.reveal(chip);
    live.textContent = sentence;
  }
  function tell() {
    // not all tiles have been read
    const line = atlas.byId("unlit"),
      there = page.lit?.filter(page.placed).length;
    if (line && page.lit)
      line.textContent =
        there < page.lit.length ? `${there.toLocaleString("en")} of them are drawn; zoom in for the rest.` : "";
  }
  return { describe, tell };
};
