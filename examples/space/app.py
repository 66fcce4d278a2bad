"""The page, as the app of a Docker Space of Hugging Face."""

from genrescope.web import Limits, serve

if __name__ == "__main__":  # worker processes import this module, too
    # 2 processors and public access: lower limits than the defaults.
    limits = Limits(megabytes=30, minutes=10, at_once=2, inside=40)
    framers = ("https://huggingface.co",)  # shows the Space in a frame
    serve(host="0.0.0.0", port=7860, limits=limits, framers=framers)  # noqa: S104
