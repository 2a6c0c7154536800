// The comparison of what a backend sees in the reference picture with what the exporter saw in it.

const PIXELS = 0.5; // kernels round differently; a side that is further off is another box
// Rounding of int8 moves the sides of a large box further, and chooses among weak proposals.
const INT8 = { side: 0.02, others: 0.2 };
const CELLS = 0.02; // of a quarter of a mask, as a fraction of its cells

/** Returns what is wrong with the objects of a backend, best first; "" where nothing is. */
export function difference(seen, { objects: expected, count, precision }) {
  const coarse = precision === "int8";
  const allowed = coarse ? Math.floor(expected.length * INT8.others) : 0;
  const rest = [...seen];
  let missing = 0;
  for (const [i, wanted] of expected.entries()) {
    const index = rest.findIndex((each) => same(each, wanted, coarse ? INT8.side : 0));
    // Taken out, so that an object that comes twice is one too many.
    if (index >= 0) rest.splice(index, 1);
    else if (++missing > allowed) {
      return `object ${i + 1} of ${expected.length} in the reference picture differs`;
    }
  }
  // Where only the best were written down, what scores like the last of them may be one of the others.
  const last = expected.at(-1)?.score ?? 0;
  const least = count > expected.length ? last + tolerance(last) : -Infinity;
  const added = rest.filter((each) => each.score > least).length;
  if (added > allowed) return `${added} objects too many in the reference picture`;
  // A tenth, because suppression of weak boxes is decided by the last bits of an overlap.
  if (Math.abs(seen.length - count) > count / 10) return `${seen.length} objects, ${count} expected`;
  return "";
}

function same(each, wanted, fraction) {
  const [y1, x1, y2, x2] = wanted.box;
  const pixels = PIXELS + fraction * Math.max(y2 - y1, x2 - x1);
  return (
    each.label === wanted.label &&
    Math.abs(each.score - wanted.score) < tolerance(wanted.score) &&
    each.box.every((side, i) => Math.abs(side - wanted.box[i]) < pixels) &&
    (!wanted.mask || sameMask(each, wanted.mask))
  );
}

/** Returns by how much a score may differ: weak ones less, or a backend that gives zeros would pass. */
function tolerance(score) {
  return Math.min(0.05, 0.01 + score / 10);
}

function sameMask({ mask, side }, wanted) {
  if (!mask) return false;
  const cells = (side / 2) ** 2;
  return quarters(mask, side).every((sum, i) => Math.abs(sum - wanted[i]) < CELLS * cells);
}

/** Returns the sums of the four quarters of a mask, row by row: one sum would not see it turned. */
function quarters(mask, side) {
  const half = Math.floor(side / 2);
  const sums = [0, 0, 0, 0];
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      sums[2 * (row >= half) + (column >= half)] += mask[row * side + column];
    }
  }
  return sums;
}
