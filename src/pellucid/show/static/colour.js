/**
 * Signed 8-bit grey to colours: 128 is no relevance, 255 the strongest evidence for, 1 the strongest against.
 */

export const ZERO = 128;

/**
 * How a map is shown.
 * @typedef {object} Look
 * @property {number} gain       multiplies the values: below 1 for a larger scale than the map's own
 * @property {number} threshold  share of full colour under which nothing is drawn
 * @property {number} opacity    of the colours, 0 to 1
 */

/**
 * Read the anchors of the colour map from the page's own filter, so that there is one palette.
 * @param {Document} page
 * @param {string} palette  "signed" or "unsigned"
 * @returns {number[][]} red, green and blue, each with one number from 0 to 1 an anchor
 */
export function readAnchors(page, palette) {
  return ["feFuncR", "feFuncG", "feFuncB"].map((name) => {
    const values = page.querySelector(`#${palette} ${name}`)?.getAttribute("tableValues");
    return (values ?? "0 1").split(" ").map(Number);
  });
}

/**
 * Return the colour between evenly spaced anchors.
 * @param {number[]} anchors
 * @param {number} place  from 0 to 1
 */
function between(anchors, place) {
  const at = Math.min(Math.max(place, 0), 1) * (anchors.length - 1);
  const left = Math.min(Math.floor(at), anchors.length - 2);
  return anchors[left] + (at - left) * (anchors[left + 1] - anchors[left]);
}

/**
 * Return one RGBA colour for each of the 256 bytes.
 * @param {number[][]} anchors
 * @param {Look} look
 * @returns {Uint8ClampedArray} 256 times 4
 */
export function lookup(anchors, look) {
  const table = new Uint8ClampedArray(1024);
  for (let byte = 0; byte < 256; byte += 1) {
    const value = Math.max(-1, Math.min(1, (look.gain * (byte - ZERO)) / 127));
    const shown = Math.abs(value) >= look.threshold;
    for (let band = 0; band < 3; band += 1) {
      table[4 * byte + band] = 255 * between(anchors[band], (value + 1) / 2);
    }
    table[4 * byte + 3] = shown ? 255 * look.opacity : 0;
  }
  return table;
}

/**
 * Colour signed grey.
 * @param {Uint8Array} grey
 * @param {Uint8ClampedArray} table  from `lookup`
 * @param {Uint8ClampedArray} pixels  RGBA, filled in place
 */
export function paint(grey, table, pixels) {
  for (let place = 0; place < grey.length; place += 1) {
    pixels.set(table.subarray(4 * grey[place], 4 * grey[place] + 4), 4 * place);
  }
}
