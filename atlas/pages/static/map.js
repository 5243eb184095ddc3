// @ts-check
"use strict";
// The map of rows, or of neurons: makes the page's object, adds its parts, and opens the view that the address names.

(async () => {
  const settings = atlas.settings();
  const source = await (atlas.neuronSource || (settings.tables.overview ? atlas.tiles : atlas.whole))(settings);
  const page = await atlas.createPage(settings, source);
  const { points, rows, n, order } = page,
    partial = order.length < n,
    still = atlas.byId("still");

  const front = settings.tables.front ? await atlas.table("front") : null;
  function hover(i, x, y) {
    const { many, nodes } = page.hint(i);
    atlas.show(x, y, many, ...nodes);
    if (!page.known(i))
      page.need([i]).then(() => {
        if (page.scatter.pointed() === i) hover(i, x, y);
      });
  }
  page.scatter = await atlas.scatter("map", points, {
    get room() {
      return page.room();
    },
    side: page.side,
    spot: (i) => rows.spot(points.row[i]),
    written: page.isWritten,
    front,
    get frame() {
      return page.frame();
    },
    visible: (i) => page.legend.visible(i),
    slanted: page.isSlanted,
    text: (i) => (page.known(i) ? rows.name(points.row[i]) : ""),
    hover,
    pick: (i) => page.pick(i),
    moved: () => {
      page.moved = true;
      page.changed();
      page.settle();
    },
    still: partial ? still : null,
    named: (names, k) => page.named(names, k),
  });
  page.legend = atlas.legend(page);
  page.refresh();
  page.legend.show();
  if (!partial) still?.remove();
  page.between = atlas.between(page);
  page.card = atlas.card(page);
  page.finder = atlas.find(page);
  page.selection = atlas.selection(page);
  page.address = atlas.remember(page);
  page.moved = false;

  page.regions().then((names) => page.scatter.name(names));
  for (const button of atlas.all("[data-region]"))
    button.addEventListener("click", () => {
      const [x, y] = button.dataset.region.split(",").map(Number);
      page.scatter.look(x, y, settings.places.span / 5);
    });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      page.selection.stop();
      page.card.close();
    }
    if (event.key === "/" && !/INPUT|TEXTAREA/.test(document.activeElement.tagName)) {
      event.preventDefault();
      atlas.byId("query").focus();
    }
  });
  const captions = page.need(order.subarray(0, 1));
  const beside = Promise.all([page.more(), settings.neurons && atlas.table("neurons")]).then(([, names]) => {
    page.names = names || null;
    page.card.again();
  });
  await captions;
  page.scatter.repaint(); // words are drawn once captions are there
  if (n <= 200_000) await beside;
  await page.address.read();
  atlas.page = page;
  document.body.dataset.ready = "";
})();
