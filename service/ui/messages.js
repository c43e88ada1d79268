/**
 * Every problem code of the service in words of the reading room: what is wrong with the study, and
 * what to do. `again` says what a second attempt may change: nothing ("retry"), or the parameter
 * `resample` ("resample"). A code that is not here is told with the service's own title and detail.
 */

const say = (title, advice, again = null) => ({ title, advice, again });

const ADMINISTRATOR = "Tell whoever runs this service; the details below help them.";
const SHORTLY = "Nothing is wrong with your study. Wait a moment, then try again.";

const ASKED_FOR_KEY = say("The service asks for a key.", "Enter the API key that you were given, then try again.", "retry");
const NOT_ALLOWED = say("You may not do this.", "Your key does not allow it. Ask whoever runs this service.");

const MESSAGES = {
  // The study
  empty_input: say("There is nothing in what you sent.",
    "The file or folder is empty. Check that the export from PACS has finished, and choose it again."),
  unsafe_archive: say("This archive cannot be opened.",
    "It is encrypted with a password, or has another archive inside. Unpack it on your computer and drop the folder."),
  unknown_format: say("This is not a medical image that can be read.",
    "Choose a CT as DICOM files, a zip of them, NIfTI (.nii or .nii.gz), or a grey picture as PNG, JPEG, TIFF or BMP. Reports, PDF and text files are not images."),
  unsupported_media_type: say("This kind of file is not taken.",
    "Choose DICOM files, a zip of them, NIfTI, or a grey PNG, JPEG, TIFF or BMP."),
  unsupported_transfer_syntax: say("The images are compressed in a way that cannot be read.",
    "Export the series from PACS again without compression (Explicit VR Little Endian), or as JPEG 2000 or JPEG-LS lossless."),
  unreadable_file: say("A file is damaged or incomplete.",
    "The copy may have been interrupted. Export the series again and check that all files are there."),
  no_ct_series: say("No CT series was found.",
    "The study holds only images that cannot be analysed, such as a localiser, a dose report or another object. Choose the axial series of the abdomen."),
  wrong_modality: say("This is not a CT.",
    "The model has seen CT only; MR, PET and ultrasound cannot be analysed. Choose a contrast-enhanced CT of the abdomen."),
  inconsistent_series: say("The images do not belong to one series.",
    "Orientation, pixel size or frame of reference differ between slices. Send one series at a time, without reformats and other reconstructions."),
  gantry_tilt: say("The gantry was tilted.",
    "The slices are not stacked straight, so distances between them would be wrong. You can have the series resampled: measurements stay on your slices, the model sees a straightened volume.", "resample"),
  uneven_slice_spacing: say("Slices are missing, or unevenly spaced.",
    "First check that the whole series was sent. If the scan is like this, you can have it resampled; what lies between the slices is then estimated.", "resample"),
  duplicate_slices: say("Several slices lie at the same position.",
    "Two phases or reconstructions are mixed. Send only one of them."),
  no_geometry: say("The images do not say where they were taken.",
    "Position or orientation of the slices is missing, as in screenshots stored as DICOM, or the axes of a NIfTI file are not at right angles, as of a tilted scan. Choose the original axial series as DICOM."),
  color_image: say("The picture has colour.",
    "A CT slice is grey. Take a picture without coloured annotations or overlays; DICOM is better still."),
  unsupported_pixels: say("The pixel values are not CT values.",
    "For pictures of more than 8 bits, say under “Only for pictures” which HU black and white stand for. A label map or a scaled image cannot be analysed; use the original CT."),
  image_too_small: say("The image is too small.",
    "It looks like a thumbnail. Choose the original image."),
  too_many_lesions: say("Too many separate spots were found to measure.",
    "This happens with very noisy images, or images of another body part. Choose a smoother reconstruction (soft-tissue kernel)."),
  no_dicom_source: say("DICOM results need a DICOM study.",
    "SEG, SR and RTSTRUCT refer to the original DICOM images. Send the study as DICOM to have them; NIfTI and CSV are there for every source."),
  // Its size
  request_too_large: say("The study is too large.",
    "Send only the one series that you want analysed, or as a zip."),
  archive_too_large: say("The study is too large once unpacked.",
    "Send only the one series that you want analysed."),
  too_many_files: say("Too many files.",
    "Send only the folder of the one series that you want analysed, not the whole disc."),
  too_many_voxels: say("The series has more slices than can be analysed at once.",
    "Choose the series with thicker slices, or only the abdomen."),
  out_of_memory: say("The study is too large for this server's memory.",
    "Choose the series with thicker slices, or only the abdomen. " + ADMINISTRATOR),
  // The door
  unauthorized: ASKED_FOR_KEY,
  forbidden: NOT_ALLOWED,
  foreign_host: say("The service does not know the address of this page.",
    "Open it by the address that you were given. " + ADMINISTRATOR),
  foreign_origin: say("A page of another site may not call the service.", ADMINISTRATOR),
  // The way there
  network: say("The service cannot be reached.",
    "Check the connection to the network, then try again.", "retry"),
  upload_timeout: say("The upload was too slow.",
    "The connection may be poor. Try again, or send the series as a zip, which is smaller.", "retry"),
  too_many_keys: say("Too many wrong keys were tried from this network.",
    "Wait a minute, then enter the key that you were given. " + ADMINISTRATOR, "retry"),
  too_many_requests: say("Too many studies in a short time.", SHORTLY, "retry"),
  busy: say("The service is busy.", SHORTLY, "retry"),
  deadline_exceeded: say("The analysis took too long.",
    "The service is busy, or the study is very large. Try again later.", "retry"),
  shutting_down: say("The service is restarting.",
    "What it has accepted goes on by itself once it is back. Wait a moment, then try again.", "retry"),
  model_not_ready: say("The model is not ready yet.",
    "After a start this takes some seconds. Try again; if it stays so, tell whoever runs this service.", "retry"),
  unavailable: say("The service cannot reach its storage.", SHORTLY, "retry"),
  storage_full: say("The server's disk is full.",
    "New studies cannot be taken until there is room. Delete recent studies you no longer need, or " + lower(ADMINISTRATOR), "retry"),
  // The analysis
  cancelled: say("The analysis was cancelled.", "Nothing was measured. You can send the study again.", "retry"),
  no_result: say("There is no result yet.", "Wait until the analysis is done, or send the study again."),
  not_found: say("This study is no longer there.",
    "It was deleted, or its time was over: results are kept for some days only. Send it again."),
  abandoned: say("The analysis failed several times.",
    "This study made the service stop each time it was tried. " + ADMINISTRATOR),
  internal_error: say("The service made a mistake.",
    "Try once more. If it happens again: " + lower(ADMINISTRATOR), "retry"),
  // PACS
  series_not_found: say("The PACS does not have this series.", "Check the study, and whether it has arrived in the PACS."),
  unknown_node: say("This PACS is not known to the service.", ADMINISTRATOR),
  origin_unreachable: say("The PACS cannot be reached.", "It may be down or too slow. Try again later.", "retry"),
  origin_refused: say("The PACS refused access.", ADMINISTRATOR),
  origin_incomplete: say("The PACS did not send all images.", "The series may still be arriving. Try again later.", "retry"),
  origin_invalid: say("The PACS sent an answer that cannot be read.", ADMINISTRATOR),
  // What only a mistake of this page, of a proxy or of the installation brings about
  invalid_parameter: say("A setting has a value that is not allowed.",
    "Check what is entered under “Only for pictures”: pixel size from 0.01 to 10 mm, and both ends of the window or none."),
  malformed_request: say("The request did not arrive as it was sent.", "Try again. If it happens again: " + lower(ADMINISTRATOR), "retry"),
  method_not_allowed: say("The service does not offer this.", "Reload the page: it may be older than the service."),
  not_acceptable: say("The service cannot give this answer.", "Reload the page: it may be older than the service."),
  idempotency_conflict: say("This upload was mixed up with another one.", "Send the study again.", "retry"),
  headers_too_large: say("The request was too long for the service.", ADMINISTRATOR),
  device_unavailable: say("The server's processor for the model is not available.", ADMINISTRATOR),
  invalid_model: say("The model of this service cannot be used.", ADMINISTRATOR),
  foreign_store: say("The server's storage belongs to another installation.", ADMINISTRATOR),
  invalid_pacs_file: say("The list of PACS is missing or wrong.", ADMINISTRATOR),
};

const BY_STATUS = {
  401: ASKED_FOR_KEY,
  502: say("The service cannot be reached.", SHORTLY, "retry"),
  504: say("The service cannot be reached.", SHORTLY, "retry"),
  403: NOT_ALLOWED,
};

const WARNINGS = {
  window_assumed: "Grey values were taken as the model's window. HU are estimates.",
  spacing_unknown: "The pixel size is not known: no volumes, no millimetres.",
  thickness_unknown: "The slice thickness is not known: no volumes.",
  hu_range_unusual: "The values do not look like Hounsfield units. Results may be wrong.",
  orientation_unknown: "The file does not say how the patient lies in it: left and right may be exchanged.",
  field_of_view_unusual: "The field of view is unlike that of the model's training. Check the outlines with care.",
  objects_left_out: "Some of the files are not part of the CT volume and were left out.",
  other_series: "The study holds further CT series, which were not analysed.",
  other_acquisitions: "The series holds several acquisitions or phases; one was analysed.",
  sent_twice: "A file came twice and was used once.",
  resampled: "Tilted or uneven slices were resampled for the model.",
  no_liver_found: "No liver was found. Check that the scan covers the abdomen.",
};

/** The service's own sentence would tell readers nothing more. */
const SAY_ALL = ["spacing_unknown", "thickness_unknown", "no_liver_found"];

/** Title, advice, and what a second attempt may change, of a problem. */
export function explain({ code, status, title, detail }) {
  return MESSAGES[code] ?? BY_STATUS[status] ?? say(title || "Something went wrong.", detail || ADMINISTRATOR);
}

/** A warning in words for readers; the service's own sentence tells what was found. */
export function explainWarning({ code, message }) {
  return { text: WARNINGS[code] ?? message, detail: code in WARNINGS && !SAY_ALL.includes(code) ? message : null };
}

function lower(sentence) {
  return sentence[0].toLowerCase() + sentence.slice(1);
}
