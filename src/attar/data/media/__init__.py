"""Pictures, sound and arrays: what codecs encode, read from files, memory and data sets."""

from attar.data.media.audio import from_samples as from_samples
from attar.data.media.audio import to_samples as to_samples
from attar.data.media.images import from_pil as from_pil
from attar.data.media.images import to_pil as to_pil
from attar.data.media.reading import from_array as from_array
from attar.data.media.reading import from_tensor as from_tensor
from attar.data.media.reading import read_signal as read_signal
from attar.data.media.reading import suffixes_of as suffixes_of
from attar.data.media.reading import to_array as to_array
from attar.data.media.reading import write_signal as write_signal
from attar.data.media.rows import MediaRows as MediaRows
from attar.data.media.rows import open_media as open_media
from attar.data.media.rows import open_splits as open_splits
from attar.data.media.signals import Signal as Signal
from attar.data.media.signals import fit_channels as fit_channels
