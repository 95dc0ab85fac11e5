"""Write the generated parts of the chart: `python -m devkit.generate.chart`."""

from devkit import ROOT
from devkit.generate.chart import derive

if __name__ == "__main__":
    for file, text in derive(ROOT / "helm").items():
        file.write_text(text)
