/**
 * The view in three dimensions, by NiiVue: bones from the CT, liver and tumours from the labels. It
 * is made when first asked for, from a volume of fewer voxels: NiiVue keeps some 15 bytes of a
 * voxel on the graphics card, and without one a full CT took minutes.
 */

import { COLORS, LIVER, TUMOR } from "/ui/viewer/paint.js";

// By who draws: voxels along an axis, and pixels of the canvas per CSS pixel (0 for those of the screen)
const CARD = { longest: 192, pixelRatio: 0 }, SOFTWARE = { longest: 112, pixelRatio: 0.5 };
const OPAQUE_MM = { liver: 25, tumor: 10 }; // of tissue that have the overlay's opacity
const BONE_HU = [150, 500];
const UINT8 = 2, INT16 = 4; // NIfTI's codes of types

export class Rendering {
  #niivue;
  #voxelMm = 1;
  #structures = {}; // by name, each a volume of its own: NiiVue has opacities of volumes, not of labels

  constructor(niivue) {
    this.#niivue = niivue;
  }

  /** Fills `element` with a canvas of its own. Fails where the browser has no WebGL 2. */
  static async create(element, { hu, labels }, overlay) {
    const { Niivue, NVImage, SLICE_TYPE } = await import("/ui/vendor/niivue/niivue.min.js");
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "Bones, liver and tumours in three dimensions, to be turned by dragging");
    const gl = canvas.getContext("webgl2", { preserveDrawingBuffer: true });
    if (!gl) throw new Error("Expected WebGL 2.");
    const limits = isSoftware(gl) ? SOFTWARE : CARD;
    const frame = document.createElement("div");
    Object.assign(frame.style, { width: "8px", height: "8px" }); // NiiVue draws after each step of the making
    frame.append(canvas);
    element.replaceChildren(frame);
    const niivue = new Niivue({
      backColor: [0, 0, 0, 1],
      dragAndDropEnabled: false,
      forceDevicePixelRatio: limits.pixelRatio,
      isOrientCube: hu.placed,
      logLevel: "error",
      show3Dcrosshair: false,
      sliceType: SLICE_TYPE.RENDER,
    });
    await niivue.attachToCanvas(canvas);
    const rendering = new Rendering(niivue);
    await rendering.#add(NVImage, { hu, labels }, overlay, limits);
    niivue.setRenderAzimuthElevation(180, 10); // the patient's front, as if standing before him
    Object.assign(frame.style, { width: "100%", height: "100%" });
    niivue.resizeListener();
    return rendering;
  }

  setOverlay(overlay) {
    for (const [structure, image] of Object.entries(this.#structures)) {
      image.opacity = opacityOf(structure, overlay, this.#voxelMm);
    }
    this.#niivue.updateGLVolume();
  }

  /** What is shown: the drawing buffer is kept, so that it can be read at any time. */
  get canvas() {
    return this.#niivue.canvas;
  }

  close() {
    this.#niivue.cleanup();
    this.#niivue.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  async #add(NVImage, { hu, labels }, overlay, { longest }) {
    const factors = hu.dims.map((length) => Math.ceil(length / longest));
    const image = await NVImage.new(
      asNifti(shrunk(hu, factors, mean), INT16), "ct.nii", "ct_bones", 1, null, ...BONE_HU);
    this.#niivue.addVolume(image);
    if (!labels) return;
    const small = shrunk(labels, factors, largest);
    this.#voxelMm = Math.hypot(...small.affine.map((row) => row[0]));
    for (const [structure, label] of [["liver", LIVER], ["tumor", TUMOR]]) {
      const mask = { ...small, values: small.values.map((value) => Number(value === label)) };
      this.#niivue.addColormap(structure, colormap(COLORS[structure]));
      this.#structures[structure] = await NVImage.new(
        asNifti(mask, UINT8), `${structure}.nii`, structure, opacityOf(structure, overlay, this.#voxelMm), null, 0, 1);
      this.#niivue.addVolume(this.#structures[structure]);
    }
  }
}

/** Whether the processor draws, where the browser says so. */
function isSoftware(gl) {
  const names = gl.getExtension("WEBGL_debug_renderer_info");
  const name = gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
  return /swiftshader|llvmpipe|software|basic render/i.test(name);
}

/** One colour for all that is not 0. */
function colormap(color) {
  const [R, G, B] = color.map((part) => [part, part, part]);
  return { R, G, B, A: [0, 255, 255], I: [0, 1, 255] };
}

/** Of one voxel of the many that a ray goes through: a liver of 0.25 can be seen through. */
function opacityOf(structure, overlay, voxelMm) {
  const { visible, opacity } = overlay[structure];
  return visible ? 1 - (1 - opacity) ** (voxelMm / OPAQUE_MM[structure]) : 0;
}

/** A volume whose voxels stand for blocks of `factors` voxels each; what is left at the end goes. */
function shrunk({ dims, affine, placed, values }, factors, combine) {
  const small = dims.map((length, axis) => Math.floor(length / factors[axis]));
  const result = new values.constructor(small[0] * small[1] * small[2]);
  const block = new values.constructor(factors[0] * factors[1] * factors[2]);
  let to = 0;
  for (let k = 0; k < small[2]; k++) {
    for (let j = 0; j < small[1]; j++) {
      for (let i = 0; i < small[0]; i++) {
        let at = 0;
        for (let c = 0; c < factors[2]; c++) {
          for (let b = 0; b < factors[1]; b++) {
            const from = i * factors[0] + dims[0] * (j * factors[1] + b + dims[1] * (k * factors[2] + c));
            for (let a = 0; a < factors[0]; a++) block[at++] = values[from + a];
          }
        }
        result[to++] = combine(block);
      }
    }
  }
  const moved = affine.map((row) => [
    ...factors.map((factor, axis) => row[axis] * factor),
    row[3] + factors.reduce((sum, factor, axis) => sum + (row[axis] * (factor - 1)) / 2, 0),
  ]);
  return { dims: small, affine: moved, placed, values: result };
}

function mean(block) {
  let sum = 0;
  for (let index = 0; index < block.length; index++) sum += block[index];
  return sum / block.length;
}

/** A small tumour stays to be seen. */
function largest(block) {
  let label = 0;
  for (let index = 0; index < block.length; index++) if (block[index] > label) label = block[index];
  return label;
}

/** A NIfTI-1 file: what NiiVue reads. */
function asNifti({ dims, affine, values }, type) {
  const bytes = new Uint8Array(352 + values.byteLength), view = new DataView(bytes.buffer);
  const lengths = [0, 1, 2].map((axis) => Math.hypot(...affine.map((row) => row[axis])));
  view.setInt32(0, 348, true);
  [3, ...dims, 1, 1, 1, 1].forEach((length, index) => view.setInt16(40 + 2 * index, length, true));
  view.setInt16(70, type, true);
  view.setInt16(72, 8 * values.BYTES_PER_ELEMENT, true);
  [1, ...lengths].forEach((length, index) => view.setFloat32(76 + 4 * index, length, true));
  view.setFloat32(108, 352, true);
  view.setFloat32(112, 1, true); // the slope
  view.setUint8(123, 2); // millimetres
  view.setInt16(254, 1, true); // the sform counts
  affine.forEach((row, at) => row.forEach((value, column) => view.setFloat32(280 + 16 * at + 4 * column, value, true)));
  bytes.set([0x6e, 0x2b, 0x31, 0], 344); // n+1
  bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), 352);
  return bytes.buffer;
}
