"""Contains all the data models used in inputs/outputs"""

from .code import Code
from .context import Context
from .contour_document import ContourDocument
from .contour_document_structure import ContourDocumentStructure
from .contours_document import ContoursDocument
from .create_segmentation_files_body import CreateSegmentationFilesBody
from .create_segmentation_files_body_priority import CreateSegmentationFilesBodyPriority
from .create_segmentation_priority import CreateSegmentationPriority
from .delivery_document import DeliveryDocument
from .delivery_document_objects_item import DeliveryDocumentObjectsItem
from .diameter_document import DiameterDocument
from .field_of_view import FieldOfView
from .findings_document import FindingsDocument
from .get_mask_dicom_encoding import GetMaskDicomEncoding
from .hounsfield_window import HounsfieldWindow
from .job_error import JobError
from .lesion_document import LesionDocument
from .lesion_limits import LesionLimits
from .links import Links
from .list_segmentations_status_type_0_item import ListSegmentationsStatusType0Item
from .live import Live
from .liver_document import LiverDocument
from .mask_document import MaskDocument
from .mask_document_media_type import MaskDocumentMediaType
from .model_card import ModelCard
from .model_contract import ModelContract
from .model_document import ModelDocument
from .model_list import ModelList
from .per_case import PerCase
from .per_case_additional_property import PerCaseAdditionalProperty
from .polygon_document import PolygonDocument
from .problem import Problem
from .progress_document import ProgressDocument
from .ready import Ready
from .receipt import Receipt
from .receipt_status import ReceiptStatus
from .removal_document import RemovalDocument
from .removal_document_rule import RemovalDocumentRule
from .report import Report
from .result_document import ResultDocument
from .segment_class import SegmentClass
from .segment_files_body import SegmentFilesBody
from .segmentation_document import SegmentationDocument
from .segmentation_document_priority import SegmentationDocumentPriority
from .segmentation_document_status import SegmentationDocumentStatus
from .segmentation_document_timings_s_type_0 import SegmentationDocumentTimingsSType0
from .segmentation_list import SegmentationList
from .self_test import SelfTest
from .series_parameters import SeriesParameters
from .series_parameters_objects_item import SeriesParametersObjectsItem
from .series_parameters_priority import SeriesParametersPriority
from .source_document import SourceDocument
from .source_document_format import SourceDocumentFormat
from .started import Started
from .thresholds import Thresholds
from .timings_s import TimingsS
from .training_data import TrainingData
from .tumor_document import TumorDocument
from .validation import Validation
from .warning_document import WarningDocument
from .warning_document_code import WarningDocumentCode

__all__ = (
    "Code",
    "Context",
    "ContourDocument",
    "ContourDocumentStructure",
    "ContoursDocument",
    "CreateSegmentationFilesBody",
    "CreateSegmentationFilesBodyPriority",
    "CreateSegmentationPriority",
    "DeliveryDocument",
    "DeliveryDocumentObjectsItem",
    "DiameterDocument",
    "FieldOfView",
    "FindingsDocument",
    "GetMaskDicomEncoding",
    "HounsfieldWindow",
    "JobError",
    "LesionDocument",
    "LesionLimits",
    "Links",
    "ListSegmentationsStatusType0Item",
    "Live",
    "LiverDocument",
    "MaskDocument",
    "MaskDocumentMediaType",
    "ModelCard",
    "ModelContract",
    "ModelDocument",
    "ModelList",
    "PerCase",
    "PerCaseAdditionalProperty",
    "PolygonDocument",
    "Problem",
    "ProgressDocument",
    "Ready",
    "Receipt",
    "ReceiptStatus",
    "RemovalDocument",
    "RemovalDocumentRule",
    "Report",
    "ResultDocument",
    "SegmentationDocument",
    "SegmentationDocumentPriority",
    "SegmentationDocumentStatus",
    "SegmentationDocumentTimingsSType0",
    "SegmentationList",
    "SegmentClass",
    "SegmentFilesBody",
    "SelfTest",
    "SeriesParameters",
    "SeriesParametersObjectsItem",
    "SeriesParametersPriority",
    "SourceDocument",
    "SourceDocumentFormat",
    "Started",
    "Thresholds",
    "TimingsS",
    "TrainingData",
    "TumorDocument",
    "Validation",
    "WarningDocument",
    "WarningDocumentCode",
)
