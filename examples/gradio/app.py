"""A classifier with gradio's components, as the app of a Hugging Face Space."""

import gradio as gr

import genrescope

classifier = genrescope.load()


def classify(path: str) -> dict[str, float]:
    """Return the probability of every genre."""
    try:
        return classifier.predict(path).probabilities
    except genrescope.InputError as error:  # gradio shows only "Error" for others
        raise gr.Error(f"{error.cause}. {error.remedy}.") from None


if __name__ == "__main__":
    gr.Interface(
        classify,
        gr.Audio(type="filepath", label="Clip"),
        gr.Label(num_top_classes=3, label="Genre"),
        examples=[str(genrescope.sample(name)) for name in genrescope.SAMPLES],
    ).launch()
