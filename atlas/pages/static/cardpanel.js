// @ts-check
"use strict";
// The card of a point: thumbnail and caption, the nearest points, the neurons that it activates, and how reliable its
// place is.

atlas.card = (page) => {
  const { element } = atlas;
  const { rows, points, settings } = page;
  const card = atlas.byId("card"),
    live = atlas.byId("live");
  let picked = -1,
    opener = null,
    drawn = {};
  const NEAREST = 15; // by which the map's quality was measured

  async function pick(i, fly = false, held = false) {
    if (i < 0) return;
    picked = i;
    page.between.picked(i);
    if (!card.contains(document.activeElement))
      opener = document.activeElement === document.body ? null : document.activeElement;
    if (!page.known(i)) await page.need([i]); // its place comes with its caption
    if (picked !== i) return;
    know(i);
    if (fly) page.scatter.fly(i);
    page.written(held);
    draw(i);
    page.scatter.mark([i, ...page.between.way().filter((other) => other !== i)]);
    if (!page.near(i).every(page.known)) again();
  }
  function know(i) {
    // name and number are kept for links and citations: the tile may be forgotten
    drawn = { i, number: page.number(i), name: rows.name(points.row[i]) };
  }
  function draw(i) {
    know(i);
    const focused = card.contains(document.activeElement);
    card.replaceChildren(
      ...[head(i), ...page.parts(i), near(i), page.between.part(i, () => draw(i)), strongest(i), kept(i)].filter(
        Boolean,
      ),
    );
    card.hidden = false;
    atlas.reveal(card);
    if (focused) enter();
    live.textContent = spoken(i);
  }
  // The focus goes to the strip of nearest points, along which the arrow keys move.
  const enter = () => (card.querySelector(".strip button") || card.querySelector("button"))?.focus();
  function close() {
    if (picked < 0) return;
    picked = -1;
    page.between.forget();
    page.leave(card, opener);
    card.hidden = true;
    page.scatter.mark([]);
    live.textContent = "Card closed";
    page.written();
  }
  const said = (row) => [rows.name(row), rows.about(row)].filter(Boolean).join(" · ");
  function spoken(i) {
    const others = page
      .near(i)
      .slice(0, 3)
      .map((other) => rows.name(points.row[other]))
      .join("; ");
    return `${said(points.row[i])}.${others ? ` Nearest: ${others}.` : ""}`;
  }

  const earlier = () => page.address.before() !== null && page.address.before() !== drawn.number;
  function head(i) {
    const row = points.row[i];
    return element(
      "div",
      {},
      element(
        "div.head",
        {},
        rows.thumb(row),
        element("div", {}, element("h2.caption", {}, rows.name(row)), element("small", {}, rows.about(row))),
      ),
      element(
        "div.corner",
        {},
        earlier()
          ? element(
              "button.quiet",
              {
                type: "button",
                "aria-label": "Back to the previous point",
                title: "Back",
                onclick: () => history.back(),
              },
              "←",
            )
          : null,
        element("button.quiet.cite", {
          type: "button",
          "aria-label": "Copy a citation of this point",
          title: "Copy citation",
          onclick: (event) => copy(event, cited, "Citation copied"),
        }),
        element("button.quiet.link", {
          type: "button",
          "aria-label": "Copy a link to this view",
          title: "Copy link",
          onclick: (event) => copy(event, () => location.href, "Link copied"),
        }),
        element("button.quiet", { type: "button", "aria-label": "Close card", title: "Close", onclick: close }, "×"),
      ),
    );
  }
  function copy(event, text, done) {
    page.written();
    const { left, bottom } = event.currentTarget.getBoundingClientRect();
    navigator.clipboard?.writeText(text()).then(
      () => {
        live.textContent = done;
        atlas.show(left - 60, bottom - 8, false, element("span", {}, done));
        setTimeout(atlas.hide, 1200);
      },
      () => {},
    );
  }
  // The address of a local file is cited without its folders, which are private.
  const place = () =>
    location.protocol === "file:" ? location.pathname.split("/").at(-1) + location.hash : location.href;
  const cited = () =>
    [`“${drawn.name}” (${page.cited(drawn.i, drawn.number)})`, settings.cite, place()].filter(Boolean).join(". ");
  function near(i) {
    const found = page.near(i);
    if (!found.length) return null;
    return element(
      "div",
      {},
      element("h3", {}, page.nearest),
      element(
        "div.strip",
        { role: "group", "aria-label": "Nearest points; the left and right arrows move along them", onkeydown: walk },
        ...found
          .map((other) => [other, said(points.row[other])])
          .map(([other, title]) =>
            rows.thumb(points.row[other], "button", {
              type: "button",
              title,
              "aria-label": title,
              onclick: () => pick(other, true),
            }),
          ),
      ),
    );
  }
  function walk(event) {
    // moves along the strip; Enter opens a point
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const all = [...event.currentTarget.children],
      at = all.indexOf(event.target);
    if (!step || at < 0) return;
    event.preventDefault();
    all[(at + step + all.length) % all.length].focus();
  }
  function strongest(i) {
    const found = page.neurons(i);
    if (!found.length) return null;
    return element(
      "div",
      {},
      element("h3", {}, "Neurons that react most to this"),
      element(
        "ul.list",
        {},
        ...found.map(([neuron, tenths]) => {
          const name = [
            element(
              "span",
              {},
              `${neuron}  `,
              element("bdi", {}, page.names?.label ? page.names.label.at(neuron) : ""),
            ),
            element("i.gauge", {
              "--share": tenths / Math.max(...found.map(([, most]) => most), 1),
              title: `${(tenths / 10).toFixed(1)} standard deviations above its mean`,
              role: "img",
              "aria-label": `${(tenths / 10).toFixed(1)} standard deviations above its mean`,
            }),
          ];
          const line = settings.neurons
            ? element("a.line", { href: atlas.address(neuron), title: "Open the card of this neuron" }, ...name)
            : element("div.line", {}, ...name);
          const light = element("button.quiet.beam", {
            type: "button",
            "aria-label": `Show on the map what activates neuron ${neuron}`,
            title: "Show on the map what activates it",
            onclick: () => page.legend.light(neuron),
          });
          return element("li.both", {}, line, light);
        }),
      ),
    );
  }
  function kept(i) {
    if (!points.kept || points.kept[i] > 100) return null;
    const near = Math.round((points.kept[i] / 100) * NEAREST),
      doubt = near < NEAREST / 3 ? ": do not trust its place." : ".";
    return element(
      "small",
      {},
      `${near < NEAREST / 3 ? "Only " : ""}${near} of its ${NEAREST} nearest are drawn near it${doubt}`,
    );
  }

  // On the map, an arrow key goes to the nearest point within 45 degrees of its direction.
  function step({ key, repeat }) {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[key] || [0, 0];
    if (!dx && !dy) return false;
    const { x0, x1, y0, y1 } = page.scatter.view();
    const [x, y] = picked < 0 ? [(x0 + x1) / 2, (y0 + y1) / 2] : [points.x[picked], points.y[picked]];
    let best = -1,
      least = Infinity;
    for (const i of page.shown()) {
      const [right, up] = [points.x[i] - x, points.y[i] - y];
      const along = right * dx + up * dy,
        aside = Math.abs(right * dy) + Math.abs(up * dx);
      const far = picked < 0 ? Math.abs(right) + Math.abs(up) : along + 2 * aside;
      if (i !== picked && far < least && (picked < 0 || (along > 0 && along > aside))) {
        least = far;
        best = i;
      }
    }
    pick(best, false, repeat);
    if (best >= 0 && !(points.x[best] > x0 && points.x[best] < x1 && points.y[best] > y0 && points.y[best] < y1))
      page.scatter.fly(best);
    return true;
  }
  page.scatter.plot.addEventListener("keydown", (event) => {
    if (step(event)) event.preventDefault();
    if (event.key === "Enter" && picked >= 0) enter();
    if (event.key === "+" || event.key === "=") page.scatter.zoom(0.6);
    if (event.key === "-") page.scatter.zoom(1 / 0.6);
  });
  async function again() {
    // when more of what the card shows is known
    const i = picked;
    if (i < 0) return;
    await page.need([i]);
    await page.need([i, ...page.near(i)]);
    if (picked === i) draw(i);
  }
  return { pick, close, again, cited, state: () => ({ p: picked < 0 || picked !== drawn.i ? null : drawn.number }) };
};
