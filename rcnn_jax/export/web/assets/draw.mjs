// Boxes, captions and masks over the picture.

/** Returns the colour of a class as rgb numbers: hues by the golden ratio, as in annotated images. */
export function color(label) {
  const hue = (0.58 + label * 0.6180339887498949) % 1;
  const [saturation, value] = [[0.85, 1.0], [0.6, 0.95], [1.0, 0.78]][Math.floor(label / 13) % 3];
  const at = (n) => {
    const k = (n + hue * 6) % 6;
    return Math.round(255 * (value - value * saturation * Math.max(0, Math.min(k, 4 - k, 1))));
  };
  return [at(5), at(3), at(1)];
}

/** Draws the picture and the objects with at least the threshold, worst first. */
export function draw(canvas, image, objects, names, threshold) {
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d");
  const pixels = new ImageData(new Uint8ClampedArray(image.data), image.width, image.height);
  const shown = objects.filter((each) => each.score >= threshold).reverse();
  for (const each of shown) if (each.mask) paint(pixels, each);
  context.putImageData(pixels, 0, 0);
  const size = Math.sqrt(image.width * image.height);
  // A photograph on a phone is shown at a tenth of its size, and words must be read there too.
  const shrunk = image.width / (canvas.clientWidth || image.width);
  const line = Math.max(Math.ceil(shrunk), Math.round(0.0036 * size));
  context.lineWidth = line;
  context.font = `${Math.round(Math.max(12 * shrunk, 0.022 * size))}px system-ui, sans-serif`;
  context.textBaseline = "bottom";
  for (const { box, label, score } of shown) {
    const [y1, x1, y2, x2] = box;
    context.strokeStyle = context.fillStyle = `rgb(${color(label)})`;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    const text = `${names[label] ?? label} ${score.toFixed(2)}`;
    const { width, fontBoundingBoxAscent: ascent, fontBoundingBoxDescent: descent } =
      context.measureText(text);
    const top = Math.max(y1, ascent + descent + 2);
    context.fillRect(x1 - line / 2, top - ascent - descent - 2, width + 6, ascent + descent + 2);
    context.fillStyle = "#000";
    context.fillText(text, x1 + 2, top);
  }
  return shown.length;
}

/** Blends the mask of an object into the pixels; outside its cells a mask is 0. */
function paint(pixels, { box, mask, side, label }) {
  const [y1, x1, y2, x2] = box;
  const rgb = color(label);
  const at = (row, column) =>
    row < 0 || column < 0 || row >= side || column >= side ? 0 : mask[row * side + column];
  for (let y = Math.floor(y1); y < Math.min(Math.ceil(y2), pixels.height); y++) {
    const v = ((y + 0.5 - y1) / (y2 - y1)) * side - 0.5;
    for (let x = Math.floor(x1); x < Math.min(Math.ceil(x2), pixels.width); x++) {
      const u = ((x + 0.5 - x1) / (x2 - x1)) * side - 0.5;
      const [r, c] = [Math.floor(v), Math.floor(u)];
      const [dr, dc] = [v - r, u - c];
      const upper = at(r, c) * (1 - dc) + at(r, c + 1) * dc;
      const lower = at(r + 1, c) * (1 - dc) + at(r + 1, c + 1) * dc;
      if (upper * (1 - dr) + lower * dr <= 0.5) continue;
      const i = (y * pixels.width + x) * 4;
      for (let k = 0; k < 3; k++) pixels.data[i + k] = 0.55 * pixels.data[i + k] + 0.45 * rgb[k];
    }
  }
}
