/**
 * Reads the NIfTI files of the service (int16 Hounsfield units, uint8 labels, little endian, gzipped
 * or not) as they arrive: voxels go straight into one array of the volume's size, so that a CT of
 * 300 slices takes its own 150 MB and not twice that.
 */

const INT16 = 4, UINT8 = 2;
const MM_PER_UNIT = { 1: 1000, 3: 0.001 }; // by the lower three bits of xyzt_units: metre, micron
const SPACING_MM = [0.01, 100]; // what the service takes for a spacing between pixels

/**
 * The volume at `url`: `dims` [i, j, k], `affine` (3 rows of 4, voxel to RAS mm), whether sform or
 * qform say where it is (`placed`), and `values`, i fastest. `onFraction` hears of each hundredth that
 * has come.
 */
export async function loadNifti(url, { headers, signal, onFraction = () => {} } = {}) {
  const response = await fetch(url, { headers, signal });
  if (!response.ok) {
    const error = new Error(`Expected a volume at ${url}, found status ${response.status}.`);
    throw Object.assign(error, { status: response.status });
  }
  return readNifti(await plain(response.body), onFraction);
}

/** The stream without gzip, whether it has it or not. */
async function plain(stream) {
  const reader = stream.getReader();
  const first = await reader.read();
  const rest = new ReadableStream({
    start: (controller) => { if (!first.done) controller.enqueue(first.value); },
    pull: async (controller) => {
      const { done, value } = await reader.read();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
  const isGzip = !first.done && first.value[0] === 0x1f && first.value[1] === 0x8b;
  return isGzip ? rest.pipeThrough(new DecompressionStream("gzip")) : rest;
}

async function readNifti(stream, onFraction) {
  const reader = stream.getReader();
  const { header, voxels } = await readHeader(reader);
  const bytes = new Uint8Array(header.count * header.bytesPerVoxel);
  let filled = 0, told = -1;
  for (let chunk = voxels; chunk; chunk = (await reader.read()).value) {
    bytes.set(chunk.subarray(0, bytes.length - filled), filled);
    filled = Math.min(filled + chunk.length, bytes.length);
    const hundredths = Math.floor((100 * filled) / bytes.length);
    if (hundredths !== told) onFraction(hundredths / 100);
    told = hundredths;
  }
  if (filled < bytes.length) throw new Error(`Expected ${bytes.length} bytes of voxels, found ${filled}.`);
  const values = header.bytesPerVoxel === 2 ? new Int16Array(bytes.buffer) : bytes;
  return { dims: header.dims, affine: header.affine, placed: header.placed, values };
}

/** The header, and those bytes of voxels that came with it. */
async function readHeader(reader) {
  let head = new Uint8Array(0), offset = 352;
  while (head.length < offset) {
    const { done, value } = await reader.read();
    if (done) throw new Error("Expected a NIfTI file, found one that ends in its header.");
    const longer = new Uint8Array(head.length + value.length);
    longer.set(head);
    longer.set(value, head.length);
    head = longer;
    if (head.length >= 4 && new DataView(head.buffer).getInt32(0, true) === 540) offset = Math.max(offset, 544);
    if (head.length >= offset) offset = parse(new DataView(head.buffer)).offset;
  }
  return { header: parse(new DataView(head.buffer)), voxels: head.subarray(offset) };
}

function parse(view) {
  const size = view.getInt32(0, true);
  if (size !== 348 && size !== 540) throw new Error(`Expected a little-endian NIfTI header, found size ${size}.`);
  const fields = size === 348 ? fieldsOf1(view) : fieldsOf2(view);
  if (fields.type !== INT16 && fields.type !== UINT8) {
    throw new Error(`Expected int16 or uint8 voxels, found NIfTI type ${fields.type}.`);
  }
  const dims = [1, 2, 3].map((axis) => (axis <= fields.dim[0] ? Math.max(1, fields.dim[axis]) : 1));
  return {
    dims,
    count: dims[0] * dims[1] * dims[2],
    bytesPerVoxel: fields.type === INT16 ? 2 : 1,
    offset: fields.offset,
    placed: fields.codes.some((code) => code > 0),
    affine: inMm(withThirdAxis(fields.rows), MM_PER_UNIT[fields.units & 7] ?? 1),
  };
}

const numbers = (count, read) => Array.from({ length: count }, (_, index) => read(index));

// The service writes the sform of every file, with a code of 0 where the place means nothing.

function fieldsOf1(view) {
  return {
    dim: numbers(8, (index) => view.getInt16(40 + 2 * index, true)),
    type: view.getInt16(70, true),
    offset: view.getFloat32(108, true),
    units: view.getUint8(123),
    codes: [view.getInt16(252, true), view.getInt16(254, true)],
    rows: numbers(3, (row) => numbers(4, (column) => view.getFloat32(280 + 16 * row + 4 * column, true))),
  };
}

function fieldsOf2(view) {
  return {
    dim: numbers(8, (index) => Number(view.getBigInt64(16 + 8 * index, true))),
    type: view.getInt16(12, true),
    offset: Number(view.getBigInt64(168, true)),
    units: view.getInt32(500, true),
    codes: [view.getInt32(344, true), view.getInt32(348, true)],
    rows: numbers(3, (row) => numbers(4, (column) => view.getFloat64(400 + 32 * row + 8 * column, true))),
  };
}

/** A single slice may have no third axis: it gets the normal, of 1 mm. */
function withThirdAxis(rows) {
  const [i, j, k] = [0, 1, 2].map((column) => rows.map((row) => row[column]));
  if (Math.hypot(...k) > 0) return rows;
  const normal = [i[1] * j[2] - i[2] * j[1], i[2] * j[0] - i[0] * j[2], i[0] * j[1] - i[1] * j[0]];
  return rows.map((row, axis) => [row[0], row[1], normal[axis] / Math.hypot(...normal), row[3]]);
}

/** As the service does it: the file's unit counts only where millimetres cannot be right. */
function inMm(rows, factor) {
  const scaled = rows.map((row) => row.map((value) => value * factor));
  return !isPlausible(rows) && isPlausible(scaled) ? scaled : rows;
}

function isPlausible(rows) {
  return [0, 1].every((column) => {
    const spacing = Math.hypot(...rows.map((row) => row[column]));
    return spacing >= SPACING_MM[0] && spacing <= SPACING_MM[1];
  });
}
