// @ts-check
"use strict";
// What is drawn over the points: thumbnails where there is room, words, names of regions, and the lasso.

atlas.overlay = (stage, points, options, repaint) => {
  const canvas = /** @type {HTMLCanvasElement} */ (stage.querySelector(".overlay"));
  const settings = atlas.settings(),
    { palette, ramp, heat, mark, sheet: columns } = settings,
    hues = [...palette, ...ramp, ...heat];
  const hue = (code) => hues[code] || palette[0];
  const FONTS = ["650 17px", "600 14px", "550 12.5px"],
    FAMILY = getComputedStyle(document.body).fontFamily;
  // Names of each level are shown between these enlargements.
  const FROM = [0, 0.9, 3.5],
    PICTURED = [0, 1.6, 4], // where pictures stand for their surroundings from the first view on
    UNTIL = [4, 14, Infinity];

  const writer = atlas.writer(stage, points, options);
  const ROOM = 7000, // pixels of the view for each word, where pictures are few and where they stand for others
    SPARSE = 60_000;

  // -- thumbnails -----------------------------------------------------------------------------------------------------

  const pictured = (i) => options.spot(i).sheet >= 0 && !options.written(i);
  const images = new Map();
  function picture(sheet) {
    // its address comes from the style: in a single file it is a data URI
    if (!images.has(sheet)) {
      const probe = document.body.appendChild(atlas.element(`i.s${sheet}`, { hidden: "" }));
      const image = new Image();
      image.onload = repaint;
      image.src = getComputedStyle(probe).backgroundImage.slice(5, -2);
      probe.remove();
      images.set(sheet, image);
    }
    const image = images.get(sheet);
    return image.complete && image.naturalWidth ? image : null;
  }

  // The places on screen that do not overlap when they are drawn as squares; the earlier wins.
  function apart(places, side) {
    const squares = new Map(),
      kept = [],
      key = (cx, cy) => cx * 10000 + cy;
    for (const place of places) {
      const [cx, cy] = [Math.floor(place[1] / side), Math.floor(place[2] / side)];
      let free = true;
      for (let near = 0; near < 9 && free; near++) {
        // an overlapping square is filed under the same square of the screen, or one beside it
        const other = squares.get(key(cx + (near % 3) - 1, cy + Math.floor(near / 3) - 1));
        free = !other || Math.abs(other[1] - place[1]) >= side || Math.abs(other[2] - place[2]) >= side;
      }
      if (!free) continue;
      squares.set(key(cx, cy), place);
      kept.push(place);
    }
    return kept;
  }
  function stamp(pen, [i, x, y], side, marked, cell = -1) {
    const spot = cell < 0 ? options.spot(i) : { sheet: settings.front, ...atlas.cellPlace(cell) },
      image = picture(spot.sheet);
    if (!image) return;
    const edge = image.naturalWidth / columns,
      [left, top] = [x - side / 2, y - side / 2];
    pen.save();
    pen.beginPath();
    pen.roundRect(left, top, side, side, 5);
    pen.clip();
    pen.drawImage(image, spot.x * edge, spot.y * edge, edge, edge, left, top, side, side);
    pen.restore();
    pen.beginPath();
    pen.roundRect(left, top, side, side, 5);
    pen.lineWidth = marked ? 4 : options.frame;
    pen.strokeStyle = marked ? mark : hue(points.code[i]);
    pen.stroke();
  }
  // Where the small map lies over the large one, nothing is written.
  const mini = /** @type {HTMLElement | null} */ (stage.querySelector(".minimap"));
  const covered = () => {
    if (!mini || mini.hidden) return [];
    const { offsetLeft: left, offsetTop: top, offsetWidth: w, offsetHeight: h } = mini;
    return [[left, top, left + w, top + h]];
  };
  // Where not all pictures fit, some stand for those around them: one in each square of a grid that lies on the map, so
  // that it moves with the map. Those that overlap move apart, by less than a picture.
  const SQUARE = 27, // pixels of a square where the whole map is seen; it grows to 1.4 times that, then it is cut
    SIDE = 0.93, // of a picture, in squares
    TURNS = 20; // of moving apart
  function chosen(view, square, shown) {
    const { front } = options,
      best = new Map(),
      [left, top] = [view.toX(0), view.toY(0)];
    for (let k = 0; k < front.point.length; k++) {
      const i = front.point[k],
        [x, y] = [view.toX(points.x[i]), view.toY(points.y[i])];
      if (x < -square || y < -square || x > view.w + square || y > view.h + square || !shown(i)) continue;
      const [column, row] = [(x - left) / square, (y - top) / square].map(Math.floor);
      const away = (x - left - (column + 0.5) * square) ** 2 + (y - top - (row + 0.5) * square) ** 2,
        key = column * 1e5 + row;
      if (!best.has(key) || away < best.get(key).away)
        best.set(key, { away, key, x, y, place: [i, x, y, front.cell[k]] });
    }
    return best;
  }
  function part(best, side) {
    // those that overlap move apart along the axis on which they overlap less
    const all = [...best.values()],
      near = all.map(({ key }) =>
        [-2, -1, 0, 1, 2]
          .flatMap((right) => [-2, -1, 0, 1, 2].map((down) => best.get(key + right * 1e5 + down)))
          .filter((other) => other && other.key > key),
      );
    for (let turn = 0; turn < TURNS; turn++)
      all.forEach((one, at) => {
        for (const other of near[at]) {
          const gaps = [side - Math.abs(other.x - one.x), side - Math.abs(other.y - one.y)];
          if (gaps[0] <= 0 || gaps[1] <= 0) continue;
          const axis = gaps[0] < gaps[1] ? "x" : "y",
            shift = (Math.min(...gaps) / 2) * (other[axis] < one[axis] ? -1 : 1);
          other[axis] += shift;
          one[axis] -= shift;
        }
      });
    return all.map(({ x, y, place: [i, , , cell] }) => [i, x, y, cell]);
  }
  // Where a picture goes that a name would cover: below the name, or above it where that is nearer.
  const beside = (names, half) => (place) => {
    const [i, x, y, cell] = place,
      over = names.find((b) => b[0] < x + half && x - half < b[2] && b[1] < y + half && y - half < b[3]);
    if (!over) return place;
    const middle = (over[1] + over[3]) / 2,
      away = (over[3] - over[1]) / 2 + half;
    return [i, x, y < middle ? middle - away : middle + away, cell];
  };
  let among = null,
    last = null; // the highlighted points as a set, and those that it was made of
  function standing(pen, view, marked, lit, names, words) {
    if (!options.front) return { drawn: [], side: 0 };
    const level = Math.floor(2 * Math.log2(Math.max(view.enlarged, 0.25)) + 1e-6) / 2,
      square = (SQUARE * view.enlarged) / 2 ** level,
      side = SIDE * square,
      half = side / 2,
      taken = [...names, ...words];
    /** @param {number[]} place */
    const free = ([, x, y]) =>
      !taken.some((b) => b[0] < x + half && x - half < b[2] && b[1] < y + half && y - half < b[3]);
    /** @param {number[]} place */
    const inside = ([, x, y]) => x > 0 && y > 0 && x < view.w && y < view.h;
    if (lit !== last) [among, last] = [lit && new Set(lit), lit];
    const shown = (i) => (among ? among.has(i) : options.visible(i));
    const places = part(chosen(view, square, shown), side + 1).filter(inside);
    const under = places.filter((place) => !free(place)).map(beside(names, half));
    const drawn = apart([...places, ...under].filter(free), side);
    for (const place of drawn) stamp(pen, place, side, marked.includes(place[0]), place[3]);
    return { drawn, side };
  }
  // The pictures of points, where they fit; null where some must stand for the others.
  function thumbnails(pen, view, pictures, marked, lit) {
    const { w, h, x0, x1, y0, y1 } = view,
      placed = (i) => [i, view.toX(points.x[i]), view.toY(points.y[i])];
    if (lit && lit.length <= settings.lit) {
      // highlighted points are shown by thumbnails at any scale
      const places = [...marked, ...lit].map(placed);
      const drawn = apart(
        places.filter(([i, x, y]) => x > 0 && y > 0 && x < w && y < h && pictured(i)),
        options.side,
      );
      for (const place of drawn) stamp(pen, place, options.side, marked.includes(place[0]));
      return { drawn, side: options.side };
    }
    if (pictures.count(x0, y0, x1, y1) > 4 * options.room) return null;
    const inside = [...marked, ...pictures.inside(x0, y0, x1, y1)].map(placed);
    if (inside.length > options.room) return null;
    const { tile } = settings.places,
      room = Math.max(options.side, Math.min(64, Math.sqrt((w * h) / (inside.length + 1)) / 3)),
      side = tile ? Math.min(112, 0.94 * tile * view.sx) : room;
    const drawn = apart(
      inside.filter(([i]) => pictured(i)),
      side,
    );
    for (const place of drawn) stamp(pen, place, side, marked.includes(place[0]));
    return { drawn, side };
  }

  // -- names: coarse before fine, large before small, without overlap -------------------------------------------------

  let labels = null,
    widths = null;
  function name(of) {
    labels = of;
    widths = null;
    repaint();
  }
  function measure(pen) {
    widths = Float32Array.from({ length: labels.text.length }, (_, k) => {
      pen.font = `${FONTS[labels.level[k]]} ${FAMILY}`;
      return pen.measureText(labels.text.at(k)).width;
    });
    labels.order = [...widths.keys()].sort(
      (a, b) => labels.level[a] - labels.level[b] || labels.count[b] - labels.count[a],
    );
  }
  function findNames(pen, view, taken) {
    // taken: boxes that names must not overlap
    if (!labels) return [];
    if (!widths) measure(pen);
    const placed = [];
    for (const k of labels.order) {
      const level = labels.level[k];
      if (
        view.enlarged < (options.front ? PICTURED : FROM)[level] ||
        view.enlarged >= UNTIL[level] ||
        !options.named(labels, k)
      )
        continue;
      const first = labels.text.at(k).split(", ")[0];
      // a part of a region that has this name already
      if (placed.some((other) => labels.level[other.k] < level && other.text.split(", ").includes(first))) continue;
      const [x, y, half, tall] = [view.toX(labels.x[k]), view.toY(labels.y[k]), widths[k] / 2 + 9, 13];
      const box = [x - half, y - tall, x + half, y + tall];
      const meets = (b) => b[0] < box[2] && box[0] < b[2] && b[1] < box[3] && box[1] < b[3];
      if (box[0] < 0 || box[1] < 0 || box[2] > view.w || box[3] > view.h) continue;
      if (taken.some(meets) || placed.some((other) => meets(other.box))) continue;
      placed.push({ k, box, text: labels.text.at(k) });
    }
    return placed;
  }
  function drawNames(pen, placed, over) {
    const { color, backgroundColor } = getComputedStyle(stage);
    Object.assign(pen, { textAlign: "center", textBaseline: "middle", lineJoin: "round", lineWidth: 4 });
    for (const { k, box, text } of placed) {
      const [x, y] = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
      pen.font = `${FONTS[labels.level[k]]} ${FAMILY}`;
      Object.assign(pen, { strokeStyle: backgroundColor, fillStyle: backgroundColor });
      if (over) {
        pen.globalAlpha = 0.88;
        pen.beginPath();
        pen.roundRect(box[0] + 2, box[1] + 1, box[2] - box[0] - 4, box[3] - box[1] - 2, 8);
        pen.fill();
        pen.globalAlpha = 1;
      } else pen.strokeText(text, x, y);
      pen.fillStyle = color;
      pen.fillText(text, x, y + 0.5);
    }
  }

  // The bounds of the neurons that carry the names of this scale.
  function drawOutlines(pen, view, placed) {
    if (!labels?.outlines || !placed.length) return;
    const { sides, region } = labels.outlines,
      shown = new Set(placed.map(({ k }) => k)),
      { color, backgroundColor } = getComputedStyle(stage);
    pen.beginPath();
    region.forEach((k, at) => {
      if (!shown.has(k)) return;
      const [x0, y0, x1, y1] = sides.subarray(4 * at, 4 * at + 4);
      pen.moveTo(view.toX(x0), view.toY(y0));
      pen.lineTo(view.toX(x1), view.toY(y1));
    });
    pen.lineCap = "round";
    for (const [strokeStyle, lineWidth] of [
      [backgroundColor, 4.5],
      [color, 1.5],
    ]) {
      Object.assign(pen, { strokeStyle, lineWidth });
      pen.stroke();
    }
    pen.lineCap = "butt";
  }

  // -- the whole overlay ----------------------------------------------------------------------------------------------

  let path = null;
  function trace(of) {
    // the lasso's corners, in steps
    path = of;
    repaint();
  }
  function draw(view, { pictures, writing }, marked, lit) {
    const { w, h } = view,
      ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, w, h);
    const few = lit && lit.length <= settings.lit,
      boxes = (entries) => entries.map((entry) => entry.box);
    const fitting = thumbnails(pen, view, pictures, marked, lit),
      write = (taken, side, room) => writer.find(pen, view, writing, marked, few ? lit : null, taken, side, room);
    const squares = (fitting?.drawn || []).map(([, x, y]) => {
      const half = fitting.side / 2;
      return [x - half, y - half, x + half, y + half];
    });
    const named = findNames(pen, view, [...covered(), ...(few ? squares : [])]);
    // where pictures stand for others, a few words come first, and the pictures leave them their room
    const sparse = !fitting && !lit && options.front ? write(boxes(named), 0, SPARSE) : [];
    const { drawn, side } = fitting || standing(pen, view, marked, lit, boxes(named), boxes(sparse));
    const full = fitting || !options.front,
      words = lit && !few ? [] : full ? write([...covered(), ...squares, ...boxes(named)], side, ROOM) : sparse;
    writer.draw(pen, words, marked);
    drawOutlines(pen, view, named);
    drawNames(pen, named, drawn.length > 0 && !few);
    if (path?.length) {
      pen.beginPath();
      for (const [x, y] of path) pen.lineTo(view.toX(x), view.toY(y));
      pen.closePath();
      Object.assign(pen, { lineWidth: 1.5, strokeStyle: mark, fillStyle: `${mark}14` });
      pen.setLineDash([5, 4]);
      pen.stroke();
      pen.fill();
      pen.setLineDash([]);
    }
    return { drawn, side, named, words };
  }
  return { draw, name, trace, hue };
};
