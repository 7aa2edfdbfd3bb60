"""Labelled examples as three splits: text and label, pairs, words with tags, questions.

Whatever the source calls its columns and labels, a data set here is a `DatasetDict` with the splits
train, validation and test, the columns that its `Task` names, labels as numbers, and `source`, the
number of the row in its split. Rows of train without a label stay, as a teacher can label them.
"""

from attar.data.labelled.load import load_labelled as load_labelled
from attar.data.labelled.task import UNLABELLED as UNLABELLED
from attar.data.labelled.task import Task as Task
from attar.data.labelled.task import TaskKind as TaskKind
