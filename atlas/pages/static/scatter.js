// @ts-check
"use strict";
// A Bokeh scatter filled from typed arrays, with an overlay of thumbnails and names (atlas.overlay).
// Positions on screen are computed from the ranges, because the frame fills the plot: there are no axes.

atlas.scatter = async (target, points, options) => {
  await atlas.library; // BokehJS is packed
  const { figure: item, places } = atlas.settings(),
    accelerated = atlas.accelerated();
  if (!accelerated) for (const root of /** @type {any} */ (item).doc.roots) root.attributes.output_backend = "canvas";
  const stage = atlas.byId(target).closest(".stage");
  const plot = stage.querySelector(".plot");
  const { Bokeh } = /** @type {any} */ (window);
  await Bokeh.embed.embed_item(item, target);
  const figure = Bokeh.documents.at(-1).get_model_by_name("figure");
  const { x_range: xr, y_range: yr } = figure;
  const renderers = Object.fromEntries(figure.renderers.map((r) => [r.name, r]));
  const overlay = atlas.overlay(stage, points, options, paint);
  const raster = accelerated ? null : atlas.raster(stage, points, overlay.hue);
  let shown = atlas.places(points, new Uint32Array(0)),
    parts = { pictures: shown, writing: shown }, // those that are shown by thumbnails, and by words
    bright = null; // the points that are drawn, and those that are highlighted
  let over = { drawn: [], side: 0, named: [], words: [] }; // what the overlay shows
  const FARTHEST = 1.6, // how many times the whole map one may see at once
    BUTTONS = 48; // pixels
  let marked = [],
    lit = null,
    whole = 1;

  // -- view -----------------------------------------------------------------------------------------------------------

  let [width, height] = [plot.clientWidth || 1, plot.clientHeight || 1];
  function view() {
    const { start: x0, end: x1 } = xr,
      { start: y0, end: y1 } = yr;
    const [sx, sy] = [width / (x1 - x0), height / (y1 - y0)];
    return {
      w: width,
      h: height,
      x0,
      x1,
      y0,
      y1,
      sx,
      sy,
      enlarged: whole / (x1 - x0),
      toX: (x) => (x - x0) * sx,
      toY: (y) => (y1 - y) * sy,
    };
  }
  function look(x, y, spanX) {
    const spanY = (spanX * height) / width;
    xr.setv({ start: x - spanX / 2, end: x + spanX / 2 });
    yr.setv({ start: y - spanY / 2, end: y + spanY / 2 });
  }
  /** @returns {[number, number, number]} */
  const seen = () => [(xr.start + xr.end) / 2, (yr.start + yr.end) / 2, xr.end - xr.start];
  function extent() {
    // of all points but the 0.2 % that lie farthest out on each side: one island far away would shrink all the others
    const step = Math.ceil(points.x.length / 50_000);
    const ends = [points.x, points.y].map((of) => {
      const sorted = (step > 1 ? of.filter((_, i) => i % step === 0) : of.slice()).sort();
      const out = Math.floor(sorted.length / 500);
      return sorted.length ? [sorted[out], sorted[sorted.length - 1 - out]] : [Infinity, -Infinity];
    });
    return ends.flat();
  }
  const [left, right, bottom, top] = extent();
  function all() {
    // Squares of a grid fill the stage but for the buttons on its right; other points keep half a thumbnail's distance.
    const { tile } = places,
      room = Math.sqrt((width * height) / (points.x.length + 1)), // the side of a square for each point
      pad = tile ? room + 6 : 2 * Math.max(24, Math.min(64, room / 3) / 2 + 8),
      beside = tile && width > height ? BUTTONS : 0;
    const [w, h] = [width - pad - beside, height - pad].map((side) => Math.max(1, side));
    whole = width * (Math.max((right - left) / w, (top - bottom) / h) || 1);
    look((left + right + (beside * whole) / width) / 2, (bottom + top) / 2, whole);
    const most = FARTHEST * whole; // the wheel goes no farther out
    xr.max_interval = most;
    yr.max_interval = (most * height) / width;
  }
  const zoom = (factor) => look(seen()[0], seen()[1], Math.min(seen()[2] * factor, FARTHEST * whole));
  function fly(i) {
    // shows a point near enough to tell it from its neighbours, but with neighbours in view
    const [x, y] = [points.x[i], points.y[i]];
    let span = Math.min(seen()[2], places.span / 6);
    const around = () =>
      shown.count(x - span / 2, y - (span / 2) * (height / width), x + span / 2, y + (span / 2) * (height / width));
    while (span < places.span / 2.5 && around() < 150) span *= 1.25;
    look(x, y, span);
  }

  const crowd = points.x.length,
    least = crowd > 300000 ? 2 : crowd > 60000 ? 3 : crowd > 10000 ? 4 : crowd > 2000 ? 5 : 8;
  // Words are smaller points than pictures, and pictures have a third of the ink at least, however few they are.
  let small = 0,
    grown = 0,
    size = 0; // of a point in pixels: it grows a little when the reader zooms in
  function grow() {
    const fitting = Math.max(least, Math.min(8, Math.round(least + Math.log2(Math.max(1, view().enlarged)))));
    if (grown === fitting) return;
    const few = parts.pictures.of.length,
      many = parts.writing.of.length;
    small = Math.max(2, fitting - 1);
    size = few ? Math.max(fitting, Math.min(14, Math.ceil(small * Math.sqrt(many / few / 2)))) : fitting;
    grown = fitting;
    layer();
  }

  // -- points ---------------------------------------------------------------------------------------------------------

  function subset(of) {
    const [x, y, code] = [new Float32Array(of.length), new Float32Array(of.length), new Uint8Array(of.length)];
    of.forEach((i, at) => {
      x[at] = points.x[i];
      y[at] = points.y[i];
      code[at] = points.code[i];
    });
    return { x, y, code };
  }
  function fill(of) {
    shown = atlas.places(points, of);
    const writing = of.filter(options.written);
    const pictures = writing.length ? of.filter((i) => !options.written(i)) : of;
    parts = {
      pictures: writing.length ? atlas.places(points, pictures) : shown,
      writing: atlas.places(points, writing),
    };
    grown = 0;
    if (!raster) {
      renderers.points.data_source.data = subset(pictures);
      renderers.words.data_source.data = subset(writing);
    }
    layer();
  }
  function light(of, pictured = of) {
    // all other points fade; `pictured` are shown by thumbnails
    bright = of;
    lit = pictured;
    if (!raster) renderers.hits.data_source.data = subset(of || new Uint32Array(0));
    layer();
  }
  function layer() {
    const alpha = bright ? 0.12 : options.front ? 0.45 : 0.75,
      faint = bright ? 0.08 : 0.35; // of words
    if (raster)
      raster.set([
        { of: parts.writing.of, size: small, alpha: faint },
        { of: parts.pictures.of, size, alpha },
        { of: bright || [], size: size + 3, alpha: 1 },
      ]);
    else {
      renderers.words.glyph.setv({ fill_alpha: { value: faint }, size: { value: small } });
      renderers.points.glyph.setv({ fill_alpha: { value: alpha }, size: { value: size } });
      renderers.hits.glyph.size = { value: size + 3 };
    }
    paint();
  }
  function mark(of) {
    marked = of;
    paint();
    const { x, y } = subset(Uint32Array.from(of));
    renderers.marks.data_source.data = { x, y };
  }
  // The nearest point to a position on screen, words and thumbnails first; -1 where none is within reach.
  function nearest(px, py) {
    const { drawn, side, words } = over;
    const word = words.find(({ box }) => px >= box[0] && px <= box[2] && py >= box[1] && py <= box[3]);
    if (word) return word.i;
    for (let k = drawn.length - 1; k >= 0; k--) {
      const [i, x, y] = drawn[k];
      if (Math.abs(x - px) <= side / 2 && Math.abs(y - py) <= side / 2) return i;
    }
    const { x0, y1, sx, sy } = view();
    return shown.nearest(x0 + px / sx, y1 - py / sy, 12, sx, sy);
  }

  let waiting = false;
  function paint() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      grow();
      waiting = false;
      raster?.draw(view());
      over = overlay.draw(view(), parts, marked, lit);
      spread(view());
      orient(view());
    });
  }
  const { edge } = places; // where the still picture of the density ends
  const nothing = stage.querySelector(".nothing"),
    mini = stage.querySelector(".minimap");
  function orient({ x0, x1, y0, y1, enlarged }) {
    // told where nothing is in view; the small map shows what part of all is
    nothing.hidden = !shown.of.length || shown.inside(x0, y0, x1, y1).length > 0;
    if (!mini) return;
    mini.hidden = enlarged < 1.8;
    const share = (value) => Math.max(0, Math.min(100, (100 * (value + edge)) / (2 * edge)));
    const [left, right, top, bottom] = [share(x0), share(x1), share(-y1), share(-y0)];
    Object.assign(mini.lastElementChild.style, {
      left: `${left}%`,
      top: `${top}%`,
      width: `${right - left}%`,
      height: `${bottom - top}%`,
    });
  }
  function spread({ toX, toY, sx, sy, enlarged }) {
    // the still picture lies under the points and fades when more of them are drawn
    if (!options.still) return;
    Object.assign(options.still.style, {
      inset: "auto",
      left: `${toX(-edge) - 2}px`,
      top: `${toY(edge) - 2}px`,
      width: `${2 * edge * sx}px`,
      height: `${2 * edge * sy}px`,
      objectFit: "fill",
      opacity: Math.max(0, 0.75 - 0.2 * Math.log2(Math.max(1, enlarged))),
    });
  }

  // -- events ---------------------------------------------------------------------------------------------------------

  let pressed = null,
    pointed = -1,
    resizing = false;
  const at = (event) => {
    const box = plot.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  plot.addEventListener(
    "pointerdown",
    (event) => {
      pressed = at(event);
    },
    true,
  );
  plot.addEventListener(
    "pointermove",
    (event) => {
      const found = event.buttons ? -1 : nearest(at(event)[0], at(event)[1]);
      plot.classList.toggle("on", found >= 0);
      if (found >= 0) options.hover(found, event.clientX, event.clientY);
      else if (pointed >= 0) {
        atlas.hide();
      }
      pointed = found;
    },
    true,
  );
  plot.addEventListener("pointerleave", () => {
    pointed = -1;
    atlas.hide();
  });
  plot.addEventListener(
    "click",
    (event) => {
      const [x, y] = at(event);
      if (pressed && Math.hypot(x - pressed[0], y - pressed[1]) > 4) return;
      const found = nearest(x, y);
      if (found >= 0) {
        atlas.hide();
        options.pick(found);
      }
    },
    true,
  );
  const does = { in: () => zoom(0.6), out: () => zoom(1 / 0.6), all };
  for (const button of stage.querySelectorAll("[data-zoom]"))
    button.addEventListener("click", does[button.dataset.zoom]);
  // Ranges are watched, because the event RangesUpdate misses changes by code.
  for (const range of [xr, yr])
    range.change.connect(() => {
      atlas.hide();
      paint();
      if (!resizing) options.moved();
    });
  new ResizeObserver(() => {
    [width, height] = [plot.clientWidth || 1, plot.clientHeight || 1];
    resizing = true;
    look(...seen());
    resizing = false;
    paint();
  }).observe(plot);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  new MutationObserver(paint).observe(document.documentElement, { attributeFilter: ["data-theme"] });

  all();
  /** @returns {[number, number]} */
  const place = (i) => {
    const { toX, toY } = view(),
      box = plot.getBoundingClientRect();
    return [box.left + toX(points.x[i]), box.top + toY(points.y[i])];
  };
  return {
    fill,
    light,
    mark,
    fly,
    look,
    all,
    zoom,
    nearest,
    repaint: paint,
    view,
    seen,
    place,
    pointed: () => pointed,
    bright: () => bright,
    name: overlay.name,
    trace: overlay.trace,
    stage,
    plot,
    over: () => over,
  };
};
