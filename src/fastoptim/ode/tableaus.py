"""The numbers of the methods."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tableau:
    """A Butcher tableau: rows of a, weights b; e and the exponent of the step's control."""

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    e: tuple[float, ...] = ()
    exponent: float = 0.0  # −1/(order of the error's formula + 1)

    @property
    def kept(self) -> int:
        """How many slopes later stages need: all but the last."""
        return len(self.b) - 1

    @property
    def place_of_error(self) -> int:
        """The column for the error: that of a slope which neither b nor e needs, or one more."""
        pairs = zip(self.b, self.e, strict=False)
        return next((i for i, (b, e) in enumerate(pairs) if b == e == 0), self.kept)

    @property
    def columns(self) -> int:
        """How many lists of arrays a step needs besides the point that it is at."""
        return max(self.kept, self.place_of_error + 1) if self.e else self.kept


HEUN = Tableau(a=((), (1,)), b=(1 / 2, 1 / 2))

BOGACKI_SHAMPINE = Tableau(
    a=((), (1 / 2,), (0, 3 / 4)),
    b=(2 / 9, 1 / 3, 4 / 9),
    e=(5 / 72, -1 / 12, -1 / 9, 1 / 8),
    exponent=-1 / 3,
)

DORMAND_PRINCE = Tableau(
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    ),
    b=(35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    e=(-71 / 57600, 0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525, 1 / 40),
    exponent=-1 / 5,
)
