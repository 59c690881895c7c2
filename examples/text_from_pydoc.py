"""Write a small English text, Python's own help topics, into a folder for --task language_model.

python examples/text_from_pydoc.py FOLDER
rfwp train --task language_model --task.folder FOLDER --task.level byte
"""

import sys
from pathlib import Path
from pydoc_data.topics import topics

BLOCK = 10  # paragraphs that stay together
EVERY = 20  # of 20 blocks, one is for validation and one for testing


def main(folder: Path) -> None:
    paragraphs = "\n\n".join(text for _, text in sorted(topics.items())).split("\n\n")
    blocks = ["\n\n".join(paragraphs[start : start + BLOCK]) for start in range(0, len(paragraphs), BLOCK)]
    splits = {
        "train": [block for number, block in enumerate(blocks) if number % EVERY > 1],
        "valid": blocks[::EVERY],
        "test": blocks[1::EVERY],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for split, texts in splits.items():
        (folder / f"{split}.txt").write_text("\n\n".join(texts) + "\n")
        print(f"{folder / split}.txt: {sum(map(len, texts)):,} characters")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} FOLDER")
    main(Path(sys.argv[1]))
