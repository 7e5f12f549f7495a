"""Run records: what a run leaves behind, how it is found, read and compared. Nothing named here needs torch."""

from mtlbench.runs.record import SCHEMA as SCHEMA
from mtlbench.runs.record import Json as Json
from mtlbench.runs.record import Record as Record
from mtlbench.runs.record import find_records as find_records
from mtlbench.runs.record import folder_of as folder_of
from mtlbench.runs.record import half as half
from mtlbench.runs.record import partial_folder as partial_folder
from mtlbench.runs.record import read_record as read_record
from mtlbench.runs.record import record_folders as record_folders
from mtlbench.runs.record import remove_run as remove_run
from mtlbench.runs.record import results_inside as results_inside
from mtlbench.runs.record import run_folder as run_folder
from mtlbench.runs.record import tidy as tidy
from mtlbench.runs.record import update_record as update_record
from mtlbench.runs.record import write_record as write_record
from mtlbench.runs.setup import Change as Change
from mtlbench.runs.setup import benchmark_of as benchmark_of
from mtlbench.runs.setup import changes as changes
from mtlbench.runs.setup import decisive as decisive
from mtlbench.runs.setup import differences as differences
from mtlbench.runs.setup import in_todays_words as in_todays_words
from mtlbench.runs.setup import method_of as method_of
from mtlbench.runs.setup import without_training as without_training
