// @ts-check
"use strict";
// Draws points without a GPU, pixel by pixel: a hundred times faster than WebGL where that runs on the processor.

// Whether WebGL runs on a GPU. The address may choose: map.html?draw=webgl or ?draw=raster.
atlas.accelerated = () => {
  const asked = new URLSearchParams(location.search).get("draw");
  if (asked) return asked === "webgl";
  const gl = document.createElement("canvas").getContext("webgl", { failIfMajorPerformanceCaveat: true });
  const named = gl?.getExtension("WEBGL_debug_renderer_info"),
    renderer = gl?.getParameter(named ? named.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
  gl?.getExtension("WEBGL_lose_context")?.loseContext(); // browsers limit how many contexts a page has
  // Some software renderers ignore the flag above, so the name is checked too.
  return Boolean(gl) && !/swiftshader|llvmpipe|softpipe|software|basic render/i.test(renderer);
};

atlas.raster = (stage, points, hue) => {
  const canvas = atlas.element("canvas.overlay.ink", { "aria-hidden": "true" }),
    pen = canvas.getContext("2d");
  stage.querySelector(".plot").after(canvas);
  const words = new Uint32Array(256); // colours as little-endian pixels, without alpha
  for (let code = 0; code < 256; code++) {
    const rgb = parseInt(hue(code).slice(1), 16);
    words[code] = ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16);
  }
  let layers = [],
    image = null;

  function stamp(size, alpha, ratio) {
    // a disc as offsets from its centre's pixel, each with its alpha
    const radius = (size / 2) * ratio,
      reach = Math.ceil(radius),
      found = [];
    for (let dy = -reach; dy <= reach; dy++)
      for (let dx = -reach; dx <= reach; dx++) {
        const cover = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(dx, dy)));
        if (cover > 0.04) found.push([dx, dy, Math.round(256 * alpha * cover)]);
      }
    return {
      reach,
      dx: Int32Array.from(found, (step) => step[0]),
      dy: Int32Array.from(found, (step) => step[1]),
      alpha: Int32Array.from(found, (step) => step[2]),
    };
  }
  function ink(pixels, width, height, { x0, y1, sx, sy }, ratio, { of, size, alpha }) {
    const { reach, dx, dy, alpha: cover } = stamp(size, alpha, ratio),
      steps = dx.length,
      jump = dx.map((_, s) => dy[s] * width + dx[s]);
    const [kx, ky] = [sx * ratio, sy * ratio],
      { x, y, code } = points;
    for (let k = 0; k < of.length; k++) {
      const i = of[k],
        px = ((x[i] - x0) * kx) | 0,
        py = ((y1 - y[i]) * ky) | 0;
      if (px < reach || py < reach || px >= width - reach || py >= height - reach) continue;
      const colour = words[code[i]],
        at = py * width + px;
      for (let s = 0; s < steps; s++) pixels[at + jump[s]] = over(pixels[at + jump[s]], colour, cover[s]);
    }
  }
  function over(under, colour, a) {
    // alpha blending of two channels at a time
    const below = under >>> 24,
      alpha = below + (((255 - below) * a) >> 8);
    if (!below || (under & 0xffffff) === colour) return (alpha << 24) | colour;
    const mixed =
      ((((under & 0xff00ff) * (256 - a) + (colour & 0xff00ff) * a) >>> 8) & 0xff00ff) |
      ((((under & 0xff00) * (256 - a) + (colour & 0xff00) * a) >>> 8) & 0xff00);
    return (alpha << 24) | mixed;
  }
  function draw(view) {
    const ratio = devicePixelRatio || 1,
      [width, height] = [Math.round(view.w * ratio), Math.round(view.h * ratio)];
    if (!image || canvas.width !== width || canvas.height !== height) {
      Object.assign(canvas, { width, height });
      image = pen.createImageData(width, height);
    }
    const pixels = new Uint32Array(image.data.buffer);
    pixels.fill(0);
    for (const layer of layers) ink(pixels, width, height, view, ratio, layer);
    pen.putImageData(image, 0, 0);
  }
  return {
    set: (of) => {
      layers = of;
    },
    draw,
  };
};
