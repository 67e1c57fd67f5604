/**
 * The live gallery: colours, threshold, opacity, outlines, methods; one pointer over all maps of an image; keyboard.
 */

import { lookup, paint, readAnchors, ZERO } from "pellucid/colour";

/**
 * @typedef {object} Tile
 * @property {HTMLElement} figure
 * @property {HTMLCanvasElement} canvas
 * @property {Uint8Array} grey
 * @property {number} scale   value of full colour in this map
 * @property {number} shared  value of full colour over the method's maps
 */

/** @type {{opacity: number, threshold: number, normalise: string}} */
const look = { opacity: 1, threshold: 0, normalise: "map" };

/** @type {Record<string, number[][]>} */
const palettes = { signed: readAnchors(document, "signed"), unsigned: readAnchors(document, "unsigned") };

/**
 * Put a canvas in the place of a grey picture and keep its bytes.
 * @param {HTMLElement} figure
 * @returns {Promise<Tile | null>}
 */
async function open(figure) {
  const picture = figure.querySelector("img.map");
  if (!(picture instanceof HTMLImageElement)) return null;
  await picture.decode();
  const canvas = document.createElement("canvas");
  canvas.width = picture.naturalWidth;
  canvas.height = picture.naturalHeight;
  canvas.className = "map live";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", picture.alt);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) return null;
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const grey = new Uint8Array(canvas.width * canvas.height).map((_, place) => pixels[4 * place]);
  picture.replaceWith(canvas);
  return { figure, canvas, grey, scale: Number(figure.dataset.scale), shared: Number(figure.dataset.shared) };
}

/** @param {Tile} tile */
function fullColour(tile) {
  return look.normalise === "data" && tile.shared > 0 ? tile.shared : tile.scale;
}

/** @param {Tile} tile */
function draw(tile) {
  const { canvas, grey, figure } = tile;
  const full = fullColour(tile);
  const gain = full > 0 ? tile.scale / full : 1;
  const context = canvas.getContext("2d");
  if (context === null) return;
  const image = context.createImageData(canvas.width, canvas.height);
  const anchors = palettes[figure.dataset.palette ?? "signed"];
  paint(grey, lookup(anchors, { gain, threshold: look.threshold, opacity: look.opacity }), image.data);
  context.putImageData(image, 0, 0);
  const told = figure.querySelector(".full");
  if (told !== null) told.textContent = `full colour ±${full.toPrecision(2)}`;
}

/**
 * Show the pointer's place on every map of the same image, with the value there.
 * @param {Tile[]} tiles
 */
function linkPointers(tiles) {
  for (const row of document.querySelectorAll(".case")) {
    const own = tiles.filter((tile) => row.contains(tile.figure));
    const stacks = [...row.querySelectorAll(".stack")];
    row.addEventListener("pointermove", (event) => {
      const stack = event.target instanceof Element ? event.target.closest(".stack") : null;
      if (stack === null || !(event instanceof PointerEvent)) return leave(row, own);
      const box = stack.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width;
      const y = (event.clientY - box.top) / box.height;
      for (const one of stacks) if (one instanceof HTMLElement) place(one, x, y);
      for (const tile of own) read(tile, x, y);
      row.classList.add("pointed");
    });
    row.addEventListener("pointerleave", () => leave(row, own));
  }
}

/** @param {HTMLElement} stack @param {number} x @param {number} y */
function place(stack, x, y) {
  stack.style.setProperty("--x", `${100 * x}%`);
  stack.style.setProperty("--y", `${100 * y}%`);
}

/** @param {Tile} tile @param {number} x @param {number} y */
function read(tile, x, y) {
  const { canvas, grey, figure } = tile;
  const column = Math.min(canvas.width - 1, Math.max(0, Math.floor(x * canvas.width)));
  const line = Math.min(canvas.height - 1, Math.max(0, Math.floor(y * canvas.height)));
  const byte = grey[line * canvas.width + column];
  const value = ((byte - ZERO) / 127) * tile.scale;
  const clipped = Math.abs(byte - ZERO) === 127 ? "at least " : "";
  const told = figure.querySelector(".here");
  if (told !== null) told.textContent = `here ${clipped}${value > 0 ? "+" : ""}${value.toPrecision(2)}`;
}

/** @param {Element} row @param {Tile[]} tiles */
function leave(row, tiles) {
  row.classList.remove("pointed");
  for (const tile of tiles) {
    const told = tile.figure.querySelector(".here");
    if (told !== null) told.textContent = "";
  }
}

/**
 * Offer one box a method, which hides or shows its column.
 * @param {HTMLElement} home
 */
function offerMethods(home) {
  const names = new Set([...document.querySelectorAll(".case .tile")].map((tile) => tile.getAttribute("data-method") ?? ""));
  for (const name of names) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => {
      for (const tile of document.querySelectorAll(".case .tile")) {
        if (tile.getAttribute("data-method") === name) tile.classList.toggle("off", !box.checked);
      }
    });
    label.append(box, ` ${name}`);
    home.append(label);
  }
}

/** @param {string} id @returns {HTMLInputElement} */
function input(id) {
  const found = document.getElementById(id);
  if (!(found instanceof HTMLInputElement)) throw new Error(`the page has no control ${id}`);
  return found;
}

/** @param {Tile[]} tiles */
function connect(tiles) {
  const redraw = () => {
    look.opacity = Number(input("opacity").value);
    look.threshold = Number(input("threshold").value);
    look.normalise = input("per-data").checked ? "data" : "map";
    document.documentElement.style.setProperty("--beneath", input("beneath").value);
    document.documentElement.style.setProperty("--tile", `${input("size").value}px`);
    document.body.classList.toggle("no-masks", !input("masks").checked);
    for (const id of ["opacity", "threshold", "beneath"]) {
      const told = document.querySelector(`output[for=${id}]`);
      if (told !== null) told.textContent = `${Math.round(100 * Number(input(id).value))} %`;
    }
    tiles.forEach(draw);
  };
  document.getElementById("controls")?.addEventListener("input", redraw);
  redraw();
  linkPointers(tiles);
  document.addEventListener("keydown", (event) => press(event, redraw));
}

/** @type {Record<string, [string, number]>} */
const STEPS = {
  o: ["opacity", -1], O: ["opacity", 1], t: ["threshold", 1], T: ["threshold", -1],
  b: ["beneath", 1], B: ["beneath", -1], "+": ["size", 1], "-": ["size", -1],
};

/** @param {KeyboardEvent} event @param {() => void} redraw */
function press(event, redraw) {
  const typing = event.target instanceof HTMLInputElement && event.target.type === "text";
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in STEPS) {
    const [id, steps] = STEPS[event.key];
    if (steps > 0) input(id).stepUp(steps);
    else input(id).stepDown(-steps);
  } else if (event.key === "m") input("masks").checked = !input("masks").checked;
  else if (event.key === "n") {
    const other = input("per-data").checked ? "per-map" : "per-data";
    input(other).checked = true;
  } else if (event.key === "j" || event.key === "k") return walk(event.key === "j" ? 1 : -1);
  else return;
  event.preventDefault();
  redraw();
}

/** @param {number} step */
function walk(step) {
  /** @type {HTMLElement[]} */
  const cases = [...document.querySelectorAll("article.case")].filter((one) => one instanceof HTMLElement);
  const at = cases.findIndex((one) => one === document.activeElement);
  const next = cases[Math.min(cases.length - 1, Math.max(0, at + step))];
  next?.focus();
  next?.scrollIntoView({ block: "center" });
}

const opened = await Promise.all([...document.querySelectorAll(".tile")].map((figure) => open(/** @type {HTMLElement} */ (figure))));
const tiles = /** @type {Tile[]} */ (opened.filter((tile) => tile !== null));
const home = document.getElementById("method-boxes");
if (home !== null) offerMethods(home);
document.getElementById("controls")?.removeAttribute("hidden");
connect(tiles);
document.documentElement.dataset.viewer = `ready, ${tiles.length} maps`;
