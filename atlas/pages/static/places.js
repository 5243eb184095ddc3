// @ts-check
"use strict";
// An index of points by the squares of a grid: finds what lies near a place, or inside a window, without a full scan.

atlas.places = (points, of) => {
  const { low, size } = atlas.settings().places;
  const side = Math.max(8, Math.min(512, Math.round(Math.sqrt(of.length / 4))));
  const filed = new Uint32Array(of.length),
    ends = new Uint32Array(side * side + 1);
  const line = (value) => Math.max(0, Math.min(side - 1, Math.floor(((value - low) / size) * side)));
  const square = (i) => line(points.y[i]) * side + line(points.x[i]);

  for (let k = 0; k < of.length; k++) ends[square(of[k]) + 1]++;
  for (let c = 0; c < side * side; c++) ends[c + 1] += ends[c];
  const next = ends.slice(0, side * side);
  for (let k = 0; k < of.length; k++) filed[next[square(of[k])]++] = of[k];

  // How many points the squares hold that a window touches: an upper bound for the window.
  function count(x0, y0, x1, y1) {
    let total = 0;
    for (let row = line(y0); row <= line(y1); row++)
      total += ends[row * side + line(x1) + 1] - ends[row * side + line(x0)];
    return total;
  }
  function inside(x0, y0, x1, y1) {
    const found = [];
    for (let row = line(y0); row <= line(y1); row++) {
      const last = ends[row * side + line(x1) + 1];
      for (let k = ends[row * side + line(x0)]; k < last; k++) {
        const i = filed[k],
          x = points.x[i],
          y = points.y[i];
        if (x >= x0 && x <= x1 && y >= y0 && y <= y1) found.push(i);
      }
    }
    return found;
  }
  // The nearest point within `reach` pixels, where sx and sy are pixels a step; -1 where there is none.
  function nearest(x, y, reach, sx, sy) {
    let best = -1,
      least = reach * reach;
    for (const i of inside(x - reach / sx, y - reach / sy, x + reach / sx, y + reach / sy)) {
      const dx = (points.x[i] - x) * sx,
        dy = (points.y[i] - y) * sy,
        d = dx * dx + dy * dy;
      if (d < least) {
        least = d;
        best = i;
      }
    }
    return best;
  }
  return { of, count, inside, nearest };
};
