"""genrescope: tells the genre of music, and proves how well it does.

A track becomes audio, audio becomes a representation, a representation goes through a model,
and the model's prediction goes to a study, a library or a page.
"""

from genrescope.errors import GenrescopeError, InputError

__all__ = ["GenrescopeError", "InputError", "__version__"]
__version__ = "0.1.0"
