"""`python -m devkit.generate.chart`: writes the derived parts of the chart anew."""

from devkit import ROOT
from devkit.generate.chart import derive

if __name__ == "__main__":
    for file, text in derive(ROOT / "helm").items():
        file.write_text(text)
