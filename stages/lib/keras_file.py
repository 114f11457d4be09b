from pathlib import Path
from stages.lib import files
def save(model, path: Path) -> None:
    with files.replacing(path) as t:
        t2=t.with_suffix('.keras'); model.save(t2); t2.rename(t)
