// @ts-check
"use strict";
// The selection: points inside a lasso, or all in view, as a table that can be saved as CSV or JSON.

atlas.selection = (page) => {
  const { element } = atlas;
  const { rows, points, scatter } = page;
  const panel = atlas.byId("selection"),
    button = atlas.one("[data-tool=lasso]");
  const LISTED = 200,
    CORNERS = 48;
  const table = page.table,
    apart = atlas.apart(page);
  let active = false,
    path = null,
    chosen = [],
    kept = null, // an earlier selection that the next is compared with: its corners and points
    taken = 0;

  // -- drawing: events of the lasso do not reach the map below --------------------------------------------------------

  function set(on) {
    active = on;
    button.setAttribute("aria-pressed", String(on));
    scatter.stage.classList.toggle("lasso", on);
  }
  const there = (event) => {
    const box = scatter.plot.getBoundingClientRect(),
      { x0, y1, sx, sy } = scatter.view();
    return [x0 + (event.clientX - box.left) / sx, y1 - (event.clientY - box.top) / sy];
  };
  let drawing = false,
    ended = 0; // the click that browsers send after the lasso picks nothing
  const on = (type, act) =>
    scatter.stage.addEventListener(
      type,
      (event) => {
        if (
          !(active || event.shiftKey || drawing || (type === "click" && event.timeStamp - ended < 300)) ||
          !scatter.plot.contains(event.target)
        )
          return;
        event.stopPropagation();
        event.preventDefault();
        act(event);
      },
      true,
    );
  on("pointerdown", (event) => {
    if (event.button) return;
    drawing = true;
    atlas.hide();
    scatter.plot.setPointerCapture?.(event.pointerId);
    path = [there(event)];
  });
  on("pointermove", (event) => {
    if (drawing) {
      path.push(there(event));
      scatter.trace(path);
    }
  });
  on("pointerup", (event) => {
    if (!drawing) return;
    drawing = false;
    ended = event.timeStamp;
    set(false);
    const every = Math.max(1, Math.ceil(path.length / CORNERS));
    take(path.filter((_, k) => k % every === 0).map((corner) => corner.map(Math.round)));
  });
  on("click", () => {});
  button.addEventListener("click", () => set(!active));
  atlas.one("[data-tool=screen]").addEventListener("click", () => {
    const { x0, x1, y0, y1 } = scatter.view();
    take(
      [
        [x0, y0],
        [x1, y0],
        [x1, y1],
        [x0, y1],
      ].map((corner) => corner.map(Math.round)),
    );
  });

  function within(corners, x, y) {
    // even-odd rule
    let odd = false;
    for (let a = 0, b = corners.length - 1; a < corners.length; b = a++) {
      const [ax, ay] = corners[a],
        [bx, by] = corners[b];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
    }
    return odd;
  }
  async function take(corners) {
    // selects all points inside, also those that are not drawn yet
    const turn = ++taken,
      around = corners.length > 2 ? corners : null,
      [x, y] = [0, 1].map((axis) => corners.map((corner) => corner[axis]));
    const box = { x0: Math.min(...x), x1: Math.max(...x), y0: Math.min(...y), y1: Math.max(...y) };
    const going = (share, count) => {
      if (turn !== taken) return false;
      if (share < 1)
        panel.replaceChildren(
          element(
            "p.note",
            { role: "status" },
            `${count.toLocaleString("en")} selected in ${Math.round(100 * share)} % of the area …`,
          ),
        );
      panel.hidden = false;
      return true;
    };
    scatter.trace(around);
    const found = around
      ? await page.gather(box, (i) => page.legend.visible(i) && within(around, points.x[i], points.y[i]), going)
      : [];
    const lines = await page.each(found.slice(0, LISTED), line);
    if (turn !== taken) return; // something else was selected meanwhile
    [path, chosen] = [around, found];
    list(lines);
    if (path) atlas.reveal(panel);
    if (path && !atlas.neuronSource) {
      const sides = await apart.sides(found, kept?.chosen);
      if (turn === taken) panel.querySelector(".apart").replaceChildren(...sides);
    }
    page.light("selection");
    page.changed();
  }
  const clear = () => {
    kept = null;
    return take([]);
  };
  function keep() {
    kept = { path, chosen };
    const note = element("p.note", { role: "status" }, "Now draw around the other points.");
    panel.querySelector(".ask").replaceWith(note);
    page.changed();
    set(true);
  }

  // -- the table: the selection for readers who do not see the map ----------------------------------------------------

  function list(lines) {
    if (!path) page.leave(panel);
    panel.hidden = !path;
    if (!path) return;
    const count = chosen.length.toLocaleString("en");
    panel.replaceChildren(
      element(
        "div.corner",
        {},
        element(
          "button.quiet",
          { type: "button", "aria-label": "Clear the selection", title: "Clear", onclick: clear },
          "×",
        ),
      ),
      element("h2", { id: "selected" }, `${count} selected`),
      kept
        ? element("p.note", {}, `Beside the ${kept.chosen.length.toLocaleString("en")} selected earlier.`)
        : atlas.neuronSource
          ? ""
          : element("button.ask", { type: "button", onclick: keep }, "Compare with another selection"),
      atlas.neuronSource || kept ? "" : apart.pictured(chosen, 24),
      element("div.apart", { role: "status" }),
      element(
        "div.choice",
        {},
        element(
          "button",
          { type: "button", onclick: async () => save("csv", "text/csv", csv(await records())) },
          "Save CSV",
        ),
        element(
          "button",
          {
            type: "button",
            onclick: async () => save("json", "application/json", JSON.stringify(await records(), null, 1)),
          },
          "Save JSON",
        ),
      ),
      element(
        "div.scroll",
        { tabindex: "0", role: "region", "aria-labelledby": "selected" },
        element(
          "table",
          {},
          element("thead", {}, element("tr", {}, ...table.heads.map((head) => element("th", { scope: "col" }, head)))),
          element("tbody", {}, ...lines),
        ),
      ),
    );
    if (chosen.length > LISTED)
      panel.append(element("p.note", {}, `The first ${LISTED} are listed; a saved file holds all.`));
    atlas.byId("live").textContent = `${count} points selected`;
  }
  const line = (i) =>
    element(
      "tr",
      {},
      element(
        "th",
        { scope: "row" },
        element(
          "button.line",
          { type: "button", onclick: () => page.pick(i, true) },
          rows.thumb(points.row[i]),
          element("span.caption", {}, rows.name(points.row[i])),
        ),
      ),
      ...table.cells(i).map((text) => element("td", {}, text)),
    );

  const records = () => page.each(chosen, record);
  const { origin } = page.settings.places,
    step = origin[2],
    digits = Math.min(12, Math.max(0, 1 - Math.floor(Math.log10(step))));
  // A coordinate of the layout, rounded to a step.
  const placed = (axis, value) => Number((origin[axis] + value * step).toFixed(digits));
  const record = (i) => ({ ...table.record(i), x: placed(0, points.x[i]), y: placed(1, points.y[i]) });
  function csv(table) {
    // an apostrophe makes plain text of what a spreadsheet would read as a formula
    const cell = (value) => {
      const text = String(value ?? "");
      return `"${(typeof value === "string" && /^[=+\-@\t]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
    };
    return (
      [Object.keys(table[0] || { row: 0 }), ...table.map((record) => Object.values(record))]
        .map((record) => record.map(cell).join(","))
        .join("\r\n") + "\r\n"
    );
  }
  function save(end, type, text) {
    const url = URL.createObjectURL(new Blob([text], { type }));
    element("a", { href: url, download: `selection.${end}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  const written = (corners) => (corners ? corners.map((corner) => corner.join(",")).join(";") : null);
  const state = () => ({ sel: written(path), beside: kept && kept.path !== path ? written(kept.path) : null });
  async function restore(text, earlier) {
    const [corners, first] = [text, earlier].map((each) => {
      const found = (each || "").split(";").map((corner) => corner.split(",").map(Number));
      return found.every((corner) => corner.length === 2 && corner.every(Number.isFinite)) ? found : [];
    });
    kept = null;
    if (first.length) {
      await take(first);
      kept = { path, chosen };
    }
    return take(corners);
  }
  return { take, clear, stop: () => set(false), chosen: () => (path ? chosen : null), records, csv, state, restore };
};
