"""WaLLoC: a wavelet packet transform, one linear layer and rounding store a signal as few small
integers on a coarse grid, from which a network reads it back; models train on them directly.

    c  = WPT_J(x)                        C channels become C * 2^(axes * J), sides 2^J times shorter
    z  = W c + b                         one linear layer at each position
    y  = 2 L (Phi(z / s) - 1/2)          companded; or z / step
    y^ = y + U(-1/2, 1/2)                in training; round(y) otherwise
    x^ = WPT_J^-1(decoder(expand(y^)))   the decoder works on the coarse grid alone
    loss = mean (x - x^)^2

Noise instead of rounding is what makes the latents keep a distance from the quantiser's step: no
rate term is needed. The encoder costs next to nothing: a laptop can store a data set with it.

Jacobellis, Yadwadkar: Learned Compression for Compressed Learning, 2024, arXiv 2412.09405.

Deviations (paper and official code; here; why):
- Start: random; principal components of the coefficients of one's own data, in closed form, which
  are a codec as they stand, within seconds.
- Quantiser: companded to 8 bits; uniform steps by default, so that quality is chosen by one number.
- Decoder: a network alone; also none, or a local one that adds to the linear decoder and can be
  run tile by tile.
- Loss: of the signal; of its coefficients by default, which is nearly the same and saves the way
  back. Bits can be weighed in it, as in LiVeAction (arXiv 2605.06628).
- Length of sound: the encoder of the official code is two positions too long and shifts latents
  against time; here lengths are kept.
- Padding of sound: circular; both ends are padded so that nothing wraps around, but for the paper's
  configurations.
- Mean and gain of sound: not stored; stored.
- Training on music: remixed from its stems, and the learning rate changes every 64 steps; as it is,
  and every 128 steps, as for pictures.
"""

from attar.methods.walloc.closed_form import FitReport as FitReport
from attar.methods.walloc.closed_form import fit as fit
from attar.methods.walloc.codec import CodecOutput as CodecOutput
from attar.methods.walloc.codec import WaveletCodec as WaveletCodec
from attar.methods.walloc.config import WaveletCodecConfig as WaveletCodecConfig
from attar.report.record import Paper

PAPER = Paper(
    title="Learned Compression for Compressed Learning",
    authors=("Dan Jacobellis", "Neeraja J. Yadwadkar"),
    year=2024,
    arxiv="2412.09405",
)
