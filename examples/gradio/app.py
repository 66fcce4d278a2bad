"""A classifier with gradio's components, as the app of a Hugging Face Space."""

import gradio as gr

import genrescope

classifier = genrescope.load()


def classify(path: str) -> dict[str, float]:
    """Return the probability of every genre."""
    return classifier.predict(path).probabilities


if __name__ == "__main__":
    gr.Interface(
        classify,
        gr.Audio(type="filepath", label="Clip"),
        gr.Label(num_top_classes=3, label="Genre"),
        examples=[str(genrescope.sample(name)) for name in genrescope.SAMPLES],
    ).launch()
