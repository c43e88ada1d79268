/** The two files of a result that a viewer shows. */

import { loadNifti } from "/ui/viewer/nifti.js";

/**
 * The image's Hounsfield units and its labels, null without a mask, both as `loadNifti` gives them;
 * `onFraction` hears of the image. Rejects with an `AbortError` once the signal says so.
 */
export async function loadResult({ imageUrl, maskUrl, headers, signal, onFraction }) {
  const [hu, labels] = await Promise.all([
    loadNifti(imageUrl, { headers, signal, onFraction }),
    maskUrl ? loadNifti(maskUrl, { headers, signal }) : null,
  ]);
  signal.throwIfAborted();
  return { hu, labels };
}
