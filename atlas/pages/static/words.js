// @ts-check
"use strict";
// Words on the map: small and light, each once in a view, beside the pictures among which they lie.

atlas.writer = (stage, points, options) => {
  const FAMILY = getComputedStyle(document.body).fontFamily,
    WORD = "400 11.5px",
    { mark } = atlas.settings();
  const WORDS = 3000, // words that are tried in a view
    LONGEST = 36, // letters of a text that is drawn, and of one among pictures that fill the view
    SHORT = 10,
    AMPLE = 10_000, // pixels of the view for each word, where pictures fill it
    GRID = 6; // pixels of a square by which overlaps are found
  const known = new Map(); // the word of a point, and half its width in pixels
  const font = (slanted) => `${slanted ? "italic " : ""}${WORD} ${FAMILY}`;
  function word(pen, i) {
    if (known.has(i)) return known.get(i);
    const text = options.text(i),
      slanted = options.slanted(i);
    if (!text) return { text };
    pen.font = font(slanted);
    known.set(i, { text, slanted, lower: text.toLowerCase(), half: pen.measureText(text).width / 2 });
    return known.get(i);
  }
  function occupied({ w, h }, boxes) {
    // which squares of the screen are taken
    const columns = Math.ceil(w / GRID) + 1,
      squares = new Uint8Array(columns * (Math.ceil(h / GRID) + 1));
    function each([left, top, right, bottom], of) {
      for (let y = Math.max(0, top); y < Math.min(h, bottom) + GRID; y += GRID)
        for (let x = Math.max(0, left); x < Math.min(w, right) + GRID; x += GRID)
          if (of(Math.floor(y / GRID) * columns + Math.floor(x / GRID))) return true;
      return false;
    }
    const take = (box) => each(box, (at) => ((squares[at] = 1), false));
    boxes.forEach(take);
    return { take, free: (box) => !each(box, (at) => squares[at] === 1) };
  }
  function tried(view, writing, marked, lit) {
    // the words in view, those that lie at a picture of their name first; always in one order, so that zooming keeps
    // those that are shown
    const { x0, x1, y0, y1 } = view,
      within = (i) => points.x[i] >= x0 && points.x[i] <= x1 && points.y[i] >= y0 && points.y[i] <= y1;
    const first = (lit ? [...marked, ...lit] : marked).filter((i) => options.written(i) && within(i));
    if (lit) return first;
    const found = [];
    if (writing.count(x0, y0, x1, y1) <= WORDS) found.push(...writing.inside(x0, y0, x1, y1));
    else
      for (let k = 0; k < writing.of.length && found.length < WORDS; k++)
        if (within(writing.of[k])) found.push(writing.of[k]);
    const order = (i) => (points.met?.[i] ? 0 : 2 ** 32) + (Math.imul(i, 0x9e3779b1) >>> 0);
    return [...first, ...found.sort((a, b) => order(a) - order(b))];
  }
  function find(pen, view, writing, marked, lit, taken, side, room) {
    // taken: boxes that words must not overlap; side: of the thumbnails in view, 0 where there are none; room: pixels
    // of the view for each word
    const { w, h } = view,
      most = (w * h) / room,
      longest = room > AMPLE ? SHORT : LONGEST,
      tall = 7,
      placed = [],
      told = new Set();
    const space = occupied(view, taken);
    const away = side / 2 + tall + 2; // a word may stand below or above the picture at its place
    for (const i of tried(view, writing, marked, lit)) {
      if (placed.length >= most) break;
      const { text, lower, half, slanted } = word(pen, i);
      if (!text || text.length > longest || told.has(lower)) continue;
      const [x, y] = [view.toX(points.x[i]), view.toY(points.y[i])];
      for (const shift of side ? [0, away, -away] : [0]) {
        const box = [x - half, y + shift - tall, x + half, y + shift + tall];
        const inside = box[0] >= 0 && box[1] >= 0 && box[2] <= w && box[3] <= h;
        if (!inside || !space.free([box[0] - 4, box[1], box[2] + 4, box[3]])) continue;
        space.take([box[0] - 4, box[1] - 2, box[2] + 4, box[3] + 2]);
        told.add(lower);
        placed.push({ i, box, text, slanted });
        break;
      }
    }
    return placed;
  }
  function draw(pen, placed, marked) {
    const { color, backgroundColor } = getComputedStyle(stage);
    Object.assign(pen, { textAlign: "center", textBaseline: "middle", lineJoin: "round", lineWidth: 3 });
    for (const { i, box, text, slanted } of placed) {
      const [x, y] = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2 + 0.5];
      pen.font = font(slanted);
      pen.strokeStyle = backgroundColor;
      pen.globalAlpha = 0.8;
      pen.strokeText(text, x, y);
      pen.fillStyle = marked.includes(i) ? mark : color;
      pen.fillText(text, x, y);
      pen.globalAlpha = 1;
    }
  }
  return { find, draw };
};
