"use strict";
// A Bokeh scatter filled from typed arrays, with thumbnails drawn over it where there is room for them.
// Places on screen are computed here, from the ranges: the frame fills the plot, there being no axes.

atlas.scatter = async (target, points, options) => {
  const { item, palette } = atlas.json("figure");
  const stage = document.getElementById(target).parentElement;
  const plot = stage.querySelector(".plot");
  const canvas = stage.querySelector(".overlay");
  await Bokeh.embed.embed_item(item, target);
  const doc = Bokeh.documents.at(-1);
  const figure = doc.get_model_by_name("figure");
  const { x_range: xr, y_range: yr } = figure;
  const renderers = Object.fromEntries(figure.renderers.map((r) => [r.name, r]));
  let shown = new Uint32Array(0);
  let drawn = []; // thumbnails on screen: [point, x, y]
  let side = 0, marked = [];

  // -- view -----------------------------------------------------------------------------------------------------------

  const size = () => [plot.clientWidth || 1, plot.clientHeight || 1];
  const scale = () => size()[0] / (xr.end - xr.start);
  const toX = (x) => (x - xr.start) * scale();
  const toY = (y) => (yr.end - y) * (size()[1] / (yr.end - yr.start));

  function look(x, y, spanX) {
    const [w, h] = size();
    const spanY = (spanX * h) / w;
    xr.setv({ start: x - spanX / 2, end: x + spanX / 2 });
    yr.setv({ start: y - spanY / 2, end: y + spanY / 2 });
  }
  const centre = () => [(xr.start + xr.end) / 2, (yr.start + yr.end) / 2];
  function all() {
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < points.x.length; i++) {
      if (points.x[i] < x0) x0 = points.x[i];
      if (points.x[i] > x1) x1 = points.x[i];
      if (points.y[i] < y0) y0 = points.y[i];
      if (points.y[i] > y1) y1 = points.y[i];
    }
    const [w, h] = size();
    const pad = 2 * (options.pad || 24);
    const span = Math.max((x1 - x0) / Math.max(1, w - pad), (y1 - y0) / Math.max(1, h - pad)) || 1;
    look((x0 + x1) / 2, (y0 + y1) / 2, span * w);
  }
  const zoom = (factor) => look(...centre(), (xr.end - xr.start) * factor);
  function fly(i) { // into view, and near enough to be told from its neighbours
    look(points.x[i], points.y[i], Math.min(xr.end - xr.start, 65000 / 6));
  }

  // -- points ---------------------------------------------------------------------------------------------------------

  function subset(of) {
    const [x, y, code] = [new Float32Array(of.length), new Float32Array(of.length), new Uint8Array(of.length)];
    of.forEach((i, at) => { x[at] = points.x[i]; y[at] = points.y[i]; code[at] = points.code[i]; });
    return { x, y, code };
  }
  function fill(of) {
    shown = of;
    renderers.points.data_source.data = subset(of);
    paint();
  }
  function light(of) { // the rest steps back
    renderers.points.glyph.fill_alpha = { value: of ? 0.12 : 0.75 };
    renderers.hits.data_source.data = subset(of || new Uint32Array(0));
  }
  function mark(of) {
    marked = of;
    paint();
    const { x, y } = subset(Uint32Array.from(of));
    renderers.marks.data_source.data = { x, y };
  }

  // Nearest shown point to a place on screen, a thumbnail first; -1 where none is within reach.
  function nearest(px, py) {
    for (let k = drawn.length - 1; k >= 0; k--) {
      const [i, x, y] = drawn[k];
      if (Math.abs(x - px) <= side / 2 && Math.abs(y - py) <= side / 2) return i;
    }
    const [sx, sy] = [scale(), size()[1] / (yr.end - yr.start)];
    const [x0, y0] = [xr.start + px / sx, yr.end - py / sy];
    let best = -1, reach = 12 * 12;
    for (let k = 0; k < shown.length; k++) {
      const i = shown[k], dx = (points.x[i] - x0) * sx, dy = (points.y[i] - y0) * sy, d = dx * dx + dy * dy;
      if (d < reach) { reach = d; best = i; }
    }
    return best;
  }

  // -- thumbnails over the points: one in each square of the screen, once they are few enough to be read ---------------

  const images = new Map();
  const { sheets } = atlas.json("settings");
  function picture(sheet) {
    if (!images.has(sheet)) {
      const image = new Image();
      image.onload = paint;
      image.src = `assets/${sheets[sheet]}`;
      images.set(sheet, image);
    }
    const image = images.get(sheet);
    return image.complete && image.naturalWidth ? image : null;
  }

  let waiting = false;
  function paint() {
    if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); }
  }
  function draw() {
    const [w, h] = size(), ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, w, h);
    drawn = [];
    const inside = [];
    for (const i of [...marked, ...shown]) {
      const x = toX(points.x[i]), y = toY(points.y[i]);
      if (x > 0 && x < w && y > 0 && y < h) inside.push([i, x, y]);
    }
    if (inside.length > options.room) return;
    side = Math.max(options.side, Math.min(64, Math.sqrt((w * h) / (inside.length + 1)) / 3));
    drawn = apart(inside.filter(([i]) => options.spot(i).sheet >= 0));
    for (const [i, x, y] of drawn) stamp(pen, i, x, y);
  }

  // Of the places on screen those that, drawn as squares, do not overlap; the earlier wins.
  function apart(places) {
    const squares = new Map(), kept = [], key = (cx, cy) => cx * 10000 + cy;
    for (const place of places) {
      const [cx, cy] = [Math.floor(place[1] / side), Math.floor(place[2] / side)];
      let free = true;
      for (let near = 0; near < 9 && free; near++) { // what overlaps it lies in its own square of the screen or one beside
        const other = squares.get(key(cx + (near % 3) - 1, cy + Math.floor(near / 3) - 1));
        free = !other || Math.abs(other[1] - place[1]) >= side || Math.abs(other[2] - place[2]) >= side;
      }
      if (!free) continue;
      squares.set(key(cx, cy), place);
      kept.push(place);
    }
    return kept;
  }

  function stamp(pen, i, x, y) {
    const spot = options.spot(i);
    const image = spot.sheet >= 0 && picture(spot.sheet);
    if (!image) return;
    const cell = image.naturalWidth / atlas.SHEET, [left, top] = [x - side / 2, y - side / 2];
    pen.save();
    pen.beginPath();
    pen.roundRect(left, top, side, side, 5);
    pen.clip();
    pen.drawImage(image, spot.x * cell, spot.y * cell, cell, cell, left, top, side, side);
    pen.restore();
    pen.beginPath();
    pen.roundRect(left, top, side, side, 5);
    pen.lineWidth = marked.includes(i) ? 4 : 1.5;
    pen.strokeStyle = marked.includes(i) ? "#d1495b" : palette[points.code[i]];
    pen.stroke();
  }

  // -- events -----------------------------------------------------------------------------------------------------------

  let pressed = null, over = -1;
  const at = (event) => { const box = plot.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  plot.addEventListener("pointerdown", (event) => { pressed = at(event); }, true);
  plot.addEventListener("pointermove", (event) => {
    const found = event.buttons ? -1 : nearest(...at(event));
    plot.classList.toggle("on", found >= 0);
    if (found >= 0) options.hover(found, event.clientX, event.clientY);
    else if (over >= 0) { atlas.hide(); options.leave?.(); }
    over = found;
  }, true);
  plot.addEventListener("pointerleave", () => { over = -1; atlas.hide(); options.leave?.(); });
  plot.addEventListener("click", (event) => {
    const [x, y] = at(event);
    if (pressed && Math.hypot(x - pressed[0], y - pressed[1]) > 4) return;
    const found = nearest(x, y);
    if (found >= 0) { atlas.hide(); options.pick(found); }
  }, true);
  const does = { in: () => zoom(0.6), out: () => zoom(1 / 0.6), all };
  for (const button of stage.querySelectorAll("[data-zoom]")) button.addEventListener("click", does[button.dataset.zoom]);
  for (const range of [xr, yr]) range.change.connect(() => { atlas.hide(); paint(); }); // code's changes too: RangesUpdate misses them
  new ResizeObserver(() => { const [x, y] = centre(); look(x, y, xr.end - xr.start); paint(); }).observe(plot);

  const radius = points.x.length > 100000 ? 2.5 : points.x.length > 10000 ? 4 : points.x.length > 2000 ? 5 : 8;
  renderers.points.glyph.size = { value: radius };
  renderers.hits.glyph.size = { value: radius + 3 };
  all();
  return { fill, light, mark, fly, nearest, repaint: paint, place: (i) => { const box = plot.getBoundingClientRect(); return [box.left + toX(points.x[i]), box.top + toY(points.y[i])]; } };
};
