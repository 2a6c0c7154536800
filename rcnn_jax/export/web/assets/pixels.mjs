// From an image file to the input of the network: the same pixels as the command line makes.
//
//   file -> stored pixels (no turning, no colour profile) -> fit -> resample -> float32 NCHW
//
// A mirror of data/loader/images.py; the test compares detections of both.

const WHOLE_PIXEL = 1e-6;

/** Decodes a picture to {data: RGBA bytes, width, height}, as it is stored. */
export async function decode(blob) {
  return (await decodeRaw(blob)) ?? decodeByCanvas(blob);
}

/** Decodes without a canvas, which forgets the colours of transparent pixels; null where it cannot. */
async function decodeRaw(blob) {
  const type = blob.type || "image/png";
  if (!("ImageDecoder" in self) || !(await ImageDecoder.isTypeSupported(type))) return null;
  const decoder = new ImageDecoder({
    data: await blob.arrayBuffer(),
    type,
    premultiplyAlpha: "none",
    colorSpaceConversion: "none",
  });
  try {
    const { image } = await decoder.decode();
    const { codedWidth: width, codedHeight: height } = image;
    const data = new Uint8Array(width * height * 4);
    // Stored pixels: a frame is turned only when it is drawn. A conversion to RGBA multiplies by the
    // opacity, and colours under full transparency are black after it: formats of four bytes are copied.
    const packed = /^(RGB|BGR)[AX]$/.test(image.format ?? "");
    await image.copyTo(data, packed ? {} : { format: "RGBA", colorSpace: "srgb" });
    if (packed && image.format.startsWith("B")) swapRedAndBlue(data);
    image.close();
    return { data, width, height };
  } catch {
    return null; // a form that this browser cannot copy; the canvas may
  } finally {
    decoder.close();
  }
}

function swapRedAndBlue(data) {
  for (let i = 0; i < data.length; i += 4) [data[i], data[i + 2]] = [data[i + 2], data[i]];
}

async function decodeByCanvas(blob) {
  // Stored orientation and colours: labels and training refer to them.
  const bitmap = await createImageBitmap(blob, {
    imageOrientation: "none",
    premultiplyAlpha: "none",
    colorSpaceConversion: "none",
  });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
  return { data, width, height };
}

/** Returns where an image lies on the canvas of the model. */
export function fit(height, width, geometry) {
  const [scaledHeight, scaledWidth] = scaledSize(height, width, geometry);
  const scaleY = scaledHeight / height;
  const scaleX = scaledWidth / width;
  let [top, left, bottom, right] = [0, 0, scaledHeight, scaledWidth];
  if (geometry.mode === "pad_crop" && geometry.crop) {
    [top, left] = geometry.crop;
    bottom = Math.min(geometry.crop[2], scaledHeight);
    right = Math.min(geometry.crop[3], scaledWidth);
  }
  return {
    canvas: [geometry.height, geometry.width],
    shown: [Math.min(bottom - top, geometry.height), Math.min(right - left, geometry.width)],
    scale: [scaleY, scaleX],
    offset: [top, left],
    window: [
      Math.floor(top / scaleY),
      Math.floor(left / scaleX),
      Math.min(Math.ceil(bottom / scaleY), height),
      Math.min(Math.ceil(right / scaleX), width),
    ],
  };
}

function scaledSize(height, width, geometry) {
  if (geometry.mode === "stretch") return [geometry.height, geometry.width];
  if (geometry.mode === "keep_aspect") {
    if (geometry.height * width <= geometry.width * height) {
      return [geometry.height, Math.max(Math.floor((width * geometry.height) / height), 1)];
    }
    return [Math.max(Math.floor((height * geometry.width) / width), 1), geometry.width];
  }
  return geometry.prescale ?? [height, width];
}

/** Returns the network's input: Float32Array of [1, c, h, w]. */
export function networkInput(image, placed, model) {
  const [canvasHeight, canvasWidth] = placed.canvas;
  const order = { rgb: [0, 1, 2], bgr: [2, 1, 0], l: [0] }[model.channel_order];
  const plane = canvasHeight * canvasWidth;
  const input = new Float32Array(order.length * plane);
  // The padding is pixels of value 0, which are normalised as all others.
  order.forEach((_, channel) => {
    input.fill(-model.mean[channel] / model.std[channel], channel * plane, (channel + 1) * plane);
  });
  const [top, left, bottom, right] = placed.window;
  const grey = model.channel_order === "l";
  const window = { image, left, top, width: right - left, height: bottom - top, grey };
  // Source pixel (x, y) of the window lands at x * scale - offset.
  let scale = [...placed.scale];
  const start = [top * scale[0] - placed.offset[0], left * scale[1] - placed.offset[1]];
  const source = shrink(window, scale) ?? channels(window);
  scale = [(scale[0] * window.height) / source.height, (scale[1] * window.width) / source.width];
  // Corners on whole pixels are a resize, whose border is repeated; others are a warp, whose border is
  // black. A crop is the only way to the latter.
  const whole = [
    [start[0], source.height * scale[0]],
    [start[1], source.width * scale[1]],
  ].every(([low, length]) => isWhole(low) && isWhole(low + length));
  const rows = taps(placed.shown[0], source.height, scale[0], start[0], whole);
  const columns = taps(placed.shown[1], source.width, scale[1], start[1], whole);
  for (let y = 0; y < placed.shown[0]; y++) {
    for (let x = 0; x < placed.shown[1]; x++) {
      for (let c = 0; c < order.length; c++) {
        const value = Math.round(bilinear(source, order[c], rows, columns, y, x));
        input[c * plane + y * canvasWidth + x] = (value - model.mean[c]) / model.std[c];
      }
    }
  }
  return input;
}

/** Returns the level of a channel of the pixel at a position of RGBA bytes; grey by OpenCV's weights. */
function level(data, from, channel, grey) {
  if (!grey) return data[from + channel];
  return Math.round(0.299 * data[from] + 0.587 * data[from + 1] + 0.114 * data[from + 2]);
}

/** Returns the colours of a window as planes of floats. */
function channels({ image, left, top, width, height, grey }) {
  const planes = Array.from({ length: grey ? 1 : 3 }, (_, channel) => {
    const plane = new Float32Array(width * height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const from = ((top + y) * image.width + left + x) * 4;
        plane[y * width + x] = level(image.data, from, channel, grey);
      }
    }
    return plane;
  });
  return { planes, width, height };
}

/** Averages an axis that shrinks k >= 2 times down by floor(k): bilinear alone would alias. */
function shrink(window, scale) {
  const [height, width] = [window.height, window.width].map((side, axis) => {
    const factor = Math.max(Math.floor(1 / scale[axis] + WHOLE_PIXEL), 1);
    return Math.max(Math.floor(side / factor), 1);
  });
  if (height === window.height && width === window.width) return null;
  const length = window.grey ? 1 : 3;
  const planes = Array.from({ length }, (_, channel) => average(window, channel, height, width));
  return { planes, width, height };
}

/** Returns the mean over the area of every cell, rounded to a whole level as OpenCV stores it. */
function average({ image, left, top, grey, ...window }, channel, height, width) {
  // From the bytes: planes of floats of a photograph of 50 megapixels would take 600 MB.
  const { data } = image;
  const out = new Float32Array(height * width);
  const rows = areas(window.height, height);
  const columns = areas(window.width, width);
  for (let y = 0; y < height; y++) {
    const row = rows[y];
    for (let x = 0; x < width; x++) {
      const column = columns[x];
      let [sum, weight] = [0, 0];
      for (let i = 0; i < row.weights.length; i++) {
        const line = (top + row.first + i) * image.width + left + column.first;
        for (let j = 0; j < column.weights.length; j++) {
          const part = row.weights[i] * column.weights[j];
          sum += level(data, (line + j) * 4, channel, grey) * part;
          weight += part;
        }
      }
      out[y * width + x] = Math.round(sum / weight);
    }
  }
  return out;
}

/** Returns for every cell the first position that it covers, and how much of each. */
function areas(from, to) {
  const step = from / to;
  return Array.from({ length: to }, (_, cell) => {
    const [low, high] = [cell * step, (cell + 1) * step];
    const first = Math.floor(low);
    const last = Math.min(Math.ceil(high - 1e-9), from);
    const weights = Float64Array.from({ length: last - first }, (_, i) =>
      Math.min(first + i + 1, high) - Math.max(first + i, low)
    );
    return { first, weights };
  });
}

function isWhole(value) {
  return Math.abs(value - Math.round(value)) < WHOLE_PIXEL;
}

/** Returns for every output position two input positions with their weights. */
function taps(length, side, scale, start, repeats) {
  const positions = [new Int32Array(length), new Int32Array(length)];
  const weights = [new Float32Array(length), new Float32Array(length)];
  for (let i = 0; i < length; i++) {
    const at = (i + 0.5 - start) / scale - 0.5;
    const low = Math.floor(at);
    [low, low + 1].forEach((position, tap) => {
      const inside = position >= 0 && position < side;
      positions[tap][i] = Math.min(Math.max(position, 0), side - 1);
      weights[tap][i] = inside || repeats ? (tap ? at - low : 1 - (at - low)) : 0;
    });
  }
  return { positions, weights };
}

function bilinear(source, channel, rows, columns, y, x) {
  const plane = source.planes[channel];
  let sum = 0;
  for (let i = 0; i < 2; i++) {
    const row = rows.positions[i][y] * source.width;
    for (let j = 0; j < 2; j++) {
      sum += rows.weights[i][y] * columns.weights[j][x] * plane[row + columns.positions[j][x]];
    }
  }
  return sum;
}
