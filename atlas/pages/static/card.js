// @ts-check
"use strict";
// The card of a neuron: adds to the page images with names and values, what lies in each band of the neuron's
// activations, its weakest images, its neighbours, and the commands that compute the numbers. The address names the
// band: #image=7.

(async () => {
  const { element } = atlas;
  const article = atlas.one(".neuron"),
    neuron = Number(article.dataset.neuron);
  const shard = await atlas.table(article.dataset.shard);
  const about = JSON.parse(shard.about.at(0)),
    card = JSON.parse(shard.card.at(neuron % about.shard));
  const at = new Map(Array.from(shard.row, (row, i) => [row, i]));
  const byId = (id) => atlas.byId(id);
  const map = atlas.one(".way").getAttribute("href").split("#")[0];

  // -- pictures and numbers -------------------------------------------------------------------------------------------

  const many = (count) => count.toLocaleString("en");
  const figure = (value) =>
    (value === null
      ? "–"
      : Math.abs(value) >= 1000
        ? Math.round(value).toLocaleString("en")
        : value.toPrecision(3)
    ).replace("-", "−");
  function known(row) {
    const i = at.get(row),
      sheet = shard.sheet[i],
      style = shard.styles.at(shard.style[i]);
    return { sheet, cell: row - about.starts[sheet], name: shard.names.at(shard.name[i]) + (style && ` · ${style}`) };
  }
  function thumb(row, tag = "i", attributes = {}, peak = null) {
    // peak: the position with the largest activation, and by how many percent it lies above the others
    const { sheet, cell, name } = known(row);
    if (sheet < 0) return element(`${tag}.t.none`, attributes, name);
    const heat = peak ? { "--m": peak[0], "--h": peak[1] } : {};
    return element(`${tag}.t.s${sheet}${peak ? ".m" : ""}`, { "--n": cell, ...heat, ...attributes });
  }
  const linked = (row, peak = null) =>
    thumb(row, "a", { href: `${map}#${row}`, title: known(row).name, "aria-label": known(row).name }, peak);
  // An activation in standard deviations from the mean: what it means needs no other number.
  const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)} std`;
  const distance = (stat, value) =>
    stat.std && value !== null ? signed((value - stat.mean) / stat.std) : figure(value);
  const tiles = (stat, tail, id) =>
    element(
      "ol.tiles",
      { id },
      ...stat[tail].map(([row, value, peak, rank]) =>
        element(
          "li",
          { value: rank, title: `${known(row).name}: rank ${rank}, activation ${figure(value)}` },
          linked(row, peak),
          element("small", {}, `${rank}.`, element("span", {}, distance(stat, value))),
        ),
      ),
    );
  // All but the pictures is folded; what the address names is opened, and everything for print.
  const section = (title, ...children) =>
    element("details.part", {}, element("summary", {}, element("h2", {}, title)), ...children);
  addEventListener("beforeprint", () => {
    for (const part of article.querySelectorAll("details")) part.open = true;
  });
  const list = (title, entries) =>
    element(
      "div",
      {},
      title ? element("h3", {}, title) : null,
      element(
        "ol.words",
        {},
        ...entries.map(([text, said]) => element("li", {}, text, " ", element("small", {}, said))),
      ),
    );

  // -- bands: what lies in each tenth of the range --------------------------------------------------------------------

  const svg = (name, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  function histogram(stat, kind) {
    // heights are logarithms, because the tails matter
    const bars = stat.counts.length,
      tall = Math.log1p(Math.max(...stat.counts, 1));
    const steps = stat.counts.map(
      (n, i) => `V${(100 - (94 * Math.log1p(n)) / tall).toFixed(1)}H${((1000 * (i + 1)) / bars).toFixed(1)}`,
    );
    const x = (value) => (1000 * (value - stat.min)) / (stat.max - stat.min || 1);
    const mean = x(stat.mean),
      [low, high] = [-1, 1].map((side) => Math.min(1000, Math.max(0, x(stat.mean + side * stat.std))));
    return svg(
      "svg",
      {
        class: "bars",
        viewBox: "0 0 1000 100",
        preserveAspectRatio: "none",
        role: "img",
        "aria-label":
          `Histogram of activations over ${many(stat.count)} ${kind}s, from ${figure(stat.min)} to ` +
          `${figure(stat.max)}; counts are drawn as logarithms`,
      },
      svg("path", { class: `k-${kind}`, d: `M0 100${steps.join("")}V100Z` }),
      svg("path", { class: `m-${kind}`, d: `M${low} 6H${high}M${mean} 2v8`, "vector-effect": "non-scaling-stroke" }),
    );
  }
  const edges = (stat, i) => [i, i + 1].map((edge) => stat.min + (edge * (stat.max - stat.min)) / stat.bands.length);
  const middle = (stat, i) =>
    stat.std ? (edges(stat, i)[0] + (stat.max - stat.min) / stat.bands.length / 2 - stat.mean) / stat.std : 0;
  const count = (stat, band, kind) =>
    `${band.count > about.exact ? "about " : ""}${many(band.count)} of ${many(stat.count)} ${kind}s`;

  function bands(kind) {
    const stat = card.kinds[kind];
    const columns = stat.bands.map((band, i) => {
      const [from, to] = edges(stat, i).map(figure);
      return element(
        "button.band",
        {
          type: "button",
          "data-band": `${kind}=${i + 1}`,
          "aria-pressed": "false",
          "aria-label": `From ${from} to ${to}, ${signed(middle(stat, i))}: ${count(stat, band, kind)}`,
          onclick: () => open(kind, i, true),
        },
        element("small", {}, from, element("span", {}, signed(middle(stat, i)))),
        ...band.rows.slice(0, 3).map((row) => thumb(row)),
      );
    });
    return [histogram(stat, kind), element("div.bands", {}, ...columns)];
  }
  function show(kind) {
    for (const button of article.querySelectorAll("[data-kind]"))
      button.setAttribute("aria-pressed", String(button.dataset.kind === kind));
    byId("bands").replaceChildren(...bands(kind));
    byId("band").hidden = true;
  }
  function open(kind, i, keep = false) {
    const stat = card.kinds[kind],
      band = stat.bands[i],
      [from, to] = edges(stat, i).map(figure);
    for (const button of article.querySelectorAll(".band"))
      button.setAttribute("aria-pressed", String(button.dataset.band === `${kind}=${i + 1}`));
    byId("bands").closest("details").open = true;
    byId("band").hidden = false;
    byId("band").replaceChildren(
      element(
        "p",
        {},
        element("strong", {}, `${from} to ${to}`),
        ` · ${signed(middle(stat, i))} · ${count(stat, band, kind)}`,
        band.count > band.rows.length ? `, ${band.rows.length} of them at random` : "",
      ),
      element(
        "ul.members",
        {},
        ...band.rows.map((row) => element("li", {}, linked(row), element("bdi", {}, known(row).name))),
      ),
    );
    if (keep) history.replaceState(null, "", `#${kind}=${i + 1}`);
  }
  function spread() {
    const kinds = Object.keys(card.kinds);
    const choice =
      kinds.length < 2
        ? null
        : element(
            "div.choice",
            { role: "group", "aria-label": "Kind" },
            ...kinds.map((kind) =>
              element(
                "button",
                {
                  type: "button",
                  "data-kind": kind,
                  onclick: () => {
                    show(kind);
                    history.replaceState(null, "", `#${kind}`);
                  },
                },
                `${kind}s`,
              ),
            ),
          );
    const figures = kinds
      .map((kind) => [kind, card.kinds[kind]])
      .map(([kind, s]) =>
        element(
          `div.of-${kind}`,
          {},
          element("dt", {}, `${s.count.toLocaleString("en")} ${kind}s`),
          element(
            "dd",
            {},
            `mean ${figure(s.mean)}, std ${figure(s.std)}, skew ${figure(s.skew)}, ` +
              `monosemanticity ${figure(s.monosemanticity)}`,
          ),
        ),
      );
    return section(
      "From weakest to strongest",
      ...[
        choice,
        element("div.spread", { id: "bands" }),
        element("div.members-of", { id: "band", role: "status", hidden: "" }),
        element("dl.figures", {}, ...figures),
        element(
          "p.note",
          {},
          "An activation is the largest over positions, before the ReLU. Each column is a tenth of the range, with " +
            "its start, its middle in standard deviations from the mean, and random images from it. Click a column " +
            "for more images. Heights are logarithms of counts; the bar marks mean ± std. Monosemanticity: how " +
            "similar the images are that activate the neuron (mean cosine of pairs, weighted by activation).",
        ),
      ].filter(Boolean),
    );
  }

  // -- the rest -------------------------------------------------------------------------------------------------------

  function near() {
    const titles = { response: "By their responses", basis: "By their basis rows" };
    const line = ([n, label, row]) =>
      element(
        "li",
        {},
        element("a", { href: atlas.numbered(about.file, n) }, thumb(row), String(n), element("small", {}, label)),
      );
    return (
      card.near &&
      section(
        "Similar neurons",
        element(
          "div.pair",
          {},
          ...Object.entries(titles).map(([by, title]) =>
            element("div", {}, element("h3", {}, title), element("ul.near", {}, ...card.near[by].map(line))),
          ),
        ),
      )
    );
  }
  function cell(name, value) {
    if (about.pictured.includes(name) && Array.isArray(value))
      return element("td.strip", {}, ...value.filter((row) => at.has(row)).map((row) => linked(row)));
    if (typeof value === "number")
      return element("td.n", {}, Number.isInteger(value) ? value.toLocaleString("en") : figure(value));
    return element("td", {}, element("bdi", {}, Array.isArray(value) ? value.join(", ") : String(value ?? "–")));
  }
  function table(title, rows, note) {
    return (
      rows &&
      section(
        title === "Receipts" ? "Tested by switching the neuron" : title === "Facets" ? "Groups of its pictures" : title,
        element(
          "div.scroll",
          { tabindex: "0", role: "region", "aria-label": title },
          element(
            "table",
            {},
            element(
              "thead",
              {},
              element(
                "tr",
                {},
                ...rows[0].map(([name, value]) =>
                  element(typeof value === "number" ? "th.n" : "th", { scope: "col" }, name.replaceAll("_", " ")),
                ),
              ),
            ),
            element(
              "tbody",
              {},
              ...rows.map((row) => element("tr", {}, ...row.map(([name, value]) => cell(name, value)))),
            ),
          ),
        ),
        element("p.note", {}, note),
      )
    );
  }
  const fact = ([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value));
  function again() {
    return section(
      "How to compute these numbers again, and draw the card as a figure",
      element("pre", {}, element("code", {}, about.commands.map((line) => line.replace("{}", neuron)).join("\n"))),
      element("dl.facts", {}, ...Object.entries(about.facts).map(fact)),
    );
  }
  function absent() {
    return about.absent.length
      ? section(
          "Not in this atlas",
          element(
            "ul.note.absent",
            {},
            ...about.absent.map(([what, make]) =>
              element("li", {}, `No ${what}: `, element("code", {}, make), " makes them."),
            ),
          ),
        )
      : null;
  }

  const { image, word } = card.kinds;
  const [height, width] = ["--gh", "--gw"].map((name) => getComputedStyle(document.body).getPropertyValue(name));
  const PEAKS =
    ` An image is in colour where it activates the neuron most, one of ${height} × ${width} positions, and paler ` +
    "elsewhere, the weaker the other positions are on average. Point at an image to see it whole.";
  if (image)
    byId("top").replaceWith(
      tiles(image, "top", "top"),
      element(
        "p.note",
        {},
        "Its strongest images by rank, each thing once, whatever its skin tone or vendor. Below each: by how many " +
          "standard deviations it lies above the mean of all images. An image links to its place on the map." +
          (image.top.some(([, , peak]) => peak) ? PEAKS : ""),
      ),
    );
  const words =
    word &&
    section(
      "Words that activate it most and least",
      element(
        "div.pair",
        { id: "words" },
        ...["top", "bottom"].map((tail) =>
          list(
            tail === "top" ? "Most" : "Least",
            word[tail].map(([row, value]) => [known(row).name, distance(word, value)]),
          ),
        ),
      ),
    );
  byId("words")?.remove();
  byId("near").remove();
  article.append(
    ...[
      words,
      spread(),
      image && section("Images that activate it least", tiles(image, "bottom")),
      near(),
      card.texts &&
        section(
          "What it tells the rest of the model: texts nearest to its basis row",
          list(
            "",
            card.texts.map(([text, value]) => [text, value === null ? "–" : value.toFixed(2).replace("-", "−")]),
          ),
          element("p.note", {}, "The number is the cosine of the text and the basis row: 1 is the same direction."),
        ),
      table(
        "Facets",
        card.facets,
        card.facets?.length > 1
          ? "Its strongest images form these separate clusters."
          : "Its strongest images form one cluster.",
      ),
      table(
        "Receipts",
        card.receipts,
        "How a concept's score changed when this neuron was raised, or silenced, in a real forward pass, and how it " +
          "changed when the same was done to matched control neurons. Confirmed: both the confidence interval and " +
          "the p-value show an effect of this neuron.",
      ),
      article.querySelector(".claims") &&
        section(
          "What p and q mean",
          element(
            "p.note",
            {},
            "p is how often chance alone gives a label at least as much evidence. q is the share of false labels to " +
              "expect if all labels that are at least this sure are believed. A label is confirmed if raising or " +
              "silencing the neuron moves its score as the label says, and more than in matched neurons (q up to " +
              "0.05 over all labels that were tried).",
          ),
        ),
      again(),
      absent(),
    ].filter(Boolean),
  );

  function follow() {
    const [kind, band] = location.hash.slice(1).split("=");
    const wanted = card.kinds[kind] ? kind : Object.keys(card.kinds)[0];
    show(wanted);
    if (card.kinds[wanted].bands[Number(band) - 1]) open(wanted, Number(band) - 1);
  }
  follow();
  addEventListener("hashchange", follow);
  document.addEventListener("keydown", (event) => {
    if (
      event.altKey ||
      event.ctrlKey ||
      event.metaKey ||
      /** @type {Element} */ (event.target).closest?.("input, select, .scroll")
    )
      return;
    const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
    if (rel) atlas.one(`[rel=${rel}]`)?.click();
  });
  document.body.dataset.ready = "";
})();
