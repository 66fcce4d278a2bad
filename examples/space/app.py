"""The page, where Hugging Face Spaces looks for it."""

from genrescope.web import Limits, serve

if __name__ == "__main__":  # files are heard in processes of their own, which import this, too
    # 2 processors and the open internet: shorter files and fewer at once than at home.
    limits = Limits(megabytes=30, minutes=10, at_once=2, inside=40)
    framers = ("https://huggingface.co",)  # which shows the Space in a frame
    serve(host="0.0.0.0", port=7860, limits=limits, framers=framers)  # noqa: S104
