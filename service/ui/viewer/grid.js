/**
 * Where voxels lie in the patient, and how the three planes are cut from them and turned on the
 * screen: the radiological way, as if seen from the feet, the front and the patient's left.
 *
 * Voxels are [i, j, k] of the NIfTI file, positions LPS mm. Planes are cut along the volume's own
 * axes, also where those lie a little oblique in the patient.
 */

const LETTERS = [["R", "L"], ["A", "P"], ["F", "H"]]; // by LPS axis: towards less, towards more

/** By plane the LPS direction of the screen's right, of its bottom, and in which slices count. */
const DIRECTIONS = {
  axial: { right: [0, 1], down: [1, 1], slice: [2, 1] },
  coronal: { right: [0, 1], down: [2, -1], slice: [1, 1] },
  sagittal: { right: [1, 1], down: [2, -1], slice: [0, 1] },
};

export class Grid {
  /** `affine` is voxel to RAS mm, 3 rows of 4; `placed` says whether it means a place at all. */
  constructor({ dims, affine, placed }) {
    this.dims = dims;
    this.placed = placed;
    this.affine = affine.map((row, axis) => (axis < 2 ? row.map((value) => -value) : row)); // to LPS
    this.inverse = inverted(this.affine);
    this.planes = Object.fromEntries(
      Object.entries(DIRECTIONS).map(([name, directions]) => [name, this.#plane(name, directions)]),
    );
  }

  /** The plane in which the slices of the source lie, as the service counts them. */
  get sourcePlane() {
    return Object.values(this.planes).find(({ axes }) => axes[2] === 2);
  }

  toMm(voxel) {
    return this.affine.map((row) => row[0] * voxel[0] + row[1] * voxel[1] + row[2] * voxel[2] + row[3]);
  }

  /** With fractions. */
  toVoxel(mm) {
    const offset = mm.map((value, axis) => value - this.affine[axis][3]);
    return this.inverse.map((row) => row[0] * offset[0] + row[1] * offset[1] + row[2] * offset[2]);
  }

  indexOf([i, j, k]) {
    return i + this.dims[0] * (j + this.dims[1] * k);
  }

  nearest(voxel) {
    return voxel.map((value, axis) => Math.min(Math.max(Math.round(value), 0), this.dims[axis] - 1));
  }

  #plane(name, { right, down, slice }) {
    const axisOf = nearestAxes(this.affine);
    const ways = [right, down, slice].map(([lps, way]) => {
      const axis = axisOf[lps];
      return { axis, sign: way * (this.affine[lps][axis] < 0 ? -1 : 1) };
    });
    const axes = ways.map(({ axis }) => axis), signs = ways.map(({ sign }) => sign);
    const letters = [right, down].map(([lps, way]) => (way > 0 ? LETTERS[lps] : LETTERS[lps].toReversed()));
    return new Plane(name, {
      axes,
      signs,
      size: axes.map((axis) => this.dims[axis]),
      letters: this.placed ? letters.flat() : null,
      steps: this.#screenSteps(axes, signs),
    });
  }

  /**
   * One voxel to the right and one down, as mm on the screen [x, y]. Slices of a tilted gantry are
   * no box: seen from the side the axis down stays upright, and the other one slants.
   */
  #screenSteps(axes, signs) {
    const [u, v] = [0, 1].map((at) => this.affine.map((row) => signs[at] * row[axes[at]]));
    const tall = Math.hypot(...v);
    const along = (u[0] * v[0] + u[1] * v[1] + u[2] * v[2]) / tall;
    const across = Math.sqrt(Math.max(u[0] ** 2 + u[1] ** 2 + u[2] ** 2 - along ** 2, 1e-12));
    return [[across, along], [0, tall]];
  }
}

/** One way of cutting: [u, v, w] are steps to the right, down, and through the slices. */
class Plane {
  constructor(name, { axes, signs, size, letters, steps }) {
    Object.assign(this, { name, axes, signs, size, letters, steps });
  }

  /** With fractions where the voxel has them. */
  fromVoxel(voxel) {
    return this.axes.map((axis, at) => (this.signs[at] > 0 ? voxel[axis] : this.size[at] - 1 - voxel[axis]));
  }

  toVoxel(uvw) {
    const voxel = [0, 0, 0];
    this.axes.forEach((axis, at) => { voxel[axis] = this.signs[at] > 0 ? uvw[at] : this.size[at] - 1 - uvw[at]; });
    return voxel;
  }

  /** Copies slice `w` of `values` into `into`, row by row as on the screen. */
  cut(values, dims, w, into) {
    const strides = [1, dims[0], dims[0] * dims[1]];
    const [right, down] = [0, 1].map((at) => this.signs[at] * strides[this.axes[at]]);
    const start = this.toVoxel([0, 0, w]).reduce((sum, index, axis) => sum + index * strides[axis], 0);
    const [columns, rows] = this.size;
    for (let row = 0, to = 0; row < rows; row++) {
      let from = start + row * down;
      for (let column = 0; column < columns; column++, from += right) into[to++] = values[from];
    }
    return into;
  }
}

/** Which voxel axis lies nearest to each of the patient's: all of the six ways are compared. */
function nearestAxes(affine) {
  const lengths = [0, 1, 2].map((axis) => Math.hypot(...affine.map((row) => row[axis])));
  const fit = (order) =>
    order.reduce((sum, axis, patient) => sum + Math.abs(affine[patient][axis]) / lengths[axis], 0);
  const orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
  return orders.reduce((best, order) => (fit(order) > fit(best) + 1e-9 ? order : best));
}

/** The inverse of the affine's 3 x 3 part. */
function inverted([[a, b, c], [d, e, f], [g, h, i]]) {
  const cofactors = [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ];
  const determinant = a * cofactors[0][0] + b * cofactors[1][0] + c * cofactors[2][0];
  return cofactors.map((row) => row.map((value) => value / determinant));
}
