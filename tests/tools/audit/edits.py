"""Edits of a small stage, each of which makes its result depend on something undeclared.

``assets/x.*`` are files of the repository that dvc.yaml does not name. An edit is code at the top
of the module, code in ``main``, and what is expected to catch it: the run itself, or the hermetic
run where C code reads by itself or a file is only looked for.
"""

from typing import NamedTuple


class Edit(NamedTuple):
    """One edit.

    Attributes:
        main: Statements in ``main``.
        top: Statements at the top of the module.
        caught: ``run``, or ``hermetic``.
        word: What the message of the run names.
    """

    main: str = "pass"
    top: str = ""
    caught: str = "run"
    word: str = "assets/x."


EDITS = {
    # readers of text and numbers
    "open": Edit("open('assets/x.csv').read()"),
    "io.open": Edit("import io; io.open('assets/x.csv').read()"),
    "io.FileIO": Edit("import io; io.FileIO('assets/x.csv').read()"),
    "os.open": Edit("import os; os.read(os.open('assets/x.csv', os.O_RDONLY), 9)"),
    "os.open in a folder": Edit(
        "import os; f = os.open('assets', os.O_RDONLY); os.open('x.csv', os.O_RDONLY, dir_fd=f)",
        word="assets",
    ),
    "bytes path": Edit("open(b'assets/x.csv').read()"),
    "codecs": Edit("import codecs; codecs.open('assets/x.csv').read()"),
    "read_text": Edit("Path('assets/x.csv').read_text()"),
    "read_bytes": Edit("Path('assets/x.csv').read_bytes()"),
    "fileinput": Edit("import fileinput; list(fileinput.input('assets/x.csv'))"),
    "linecache": Edit("import linecache; linecache.getline('assets/x.csv', 1)"),
    "csv": Edit("import csv; list(csv.reader(open('assets/x.csv')))"),
    "json": Edit("import json; json.load(open('assets/x.json'))"),
    "yaml": Edit("import yaml; yaml.safe_load(open('assets/x.json'))"),
    "tomllib": Edit("import tomllib; tomllib.load(open('assets/x.toml', 'rb'))"),
    "configparser": Edit("import configparser; configparser.ConfigParser().read('assets/x.toml')"),
    "pickle": Edit("import pickle; pickle.load(open('assets/x.pickle', 'rb'))"),
    "gzip": Edit("import gzip; gzip.open('assets/x.gz').read()"),
    "zipfile": Edit("import zipfile; zipfile.ZipFile('assets/x.npz').namelist()"),
    "tarfile": Edit("import tarfile; tarfile.open('assets/x.tar')"),
    "xml": Edit("import xml.etree.ElementTree as t; t.parse('assets/x.xml')"),
    "sqlite3": Edit("import sqlite3; sqlite3.connect('assets/x.db').execute('select 1')"),
    "sqlite3 by URI": Edit(
        "import sqlite3; sqlite3.connect('file:assets/x.db?mode=ro', uri=True).execute('select 1')"
    ),
    "mmap": Edit("import mmap; mmap.mmap(open('assets/x.csv').fileno(), 0, access=1)"),
    "urllib file": Edit(
        "import urllib.request, os\n"
        "urllib.request.urlopen('file://' + os.path.abspath('assets/x.csv')).read()"
    ),
    "np.load": Edit("np.load('assets/x.npy')"),
    "np.load npz": Edit("np.load('assets/x.npz')['arr_0']"),
    "np.loadtxt": Edit("np.loadtxt('assets/x.csv', delimiter=',')"),
    "np.genfromtxt": Edit("np.genfromtxt('assets/x.csv', delimiter=',')"),
    "np.fromfile": Edit("np.fromfile('assets/x.npy')"),
    "np.memmap": Edit("np.memmap('assets/x.npy', mode='r')"),
    "np.load mmap": Edit("np.load('assets/x.npy', mmap_mode='r')"),
    "np.fromregex": Edit("np.fromregex('assets/x.csv', '([0-9])', [('n', int)])"),
    "np.lib.format": Edit("np.lib.format.open_memmap('assets/x.npy', mode='r')"),
    "Pillow": Edit("from PIL import Image; Image.open('assets/x.png').load()"),
    "shutil.copy": Edit("import shutil, tempfile; shutil.copy('assets/x.csv', tempfile.mkdtemp())"),
    "hard link": Edit(
        "import os, tempfile; p = tempfile.mkdtemp(dir='..') + '/y'\n"
        "os.link('assets/x.csv', p); open(p).read()"
    ),
    "symbolic link": Edit(
        "import os, tempfile; p = tempfile.mkdtemp(dir='..') + '/y'\n"
        "os.symlink(os.path.abspath('assets/x.csv'), p); open(p).read()"
    ),
    "Git's files": Edit("Path('.git/HEAD').read_text()", word=".git/HEAD"),
    "dvc.yaml": Edit("Path('dvc.yaml').read_text()", word="dvc.yaml"),
    # ways to make a path
    "bound twice": Edit("p = 'data/n.txt'\nif settings: p = 'assets/x.csv'\nopen(p).read()"),
    "f-string": Edit("n = 'x'; open(f'assets/{n}.csv').read()"),
    "join": Edit("import os; open(os.path.join('assets', 'x.csv')).read()"),
    "format": Edit("open('%s/x.csv' % 'assets').read()"),
    "reversed": Edit("open('vsc.x/stessa'[::-1]).read()"),
    "__file__": Edit("(Path(__file__).parents[1] / 'assets' / 'x.csv').read_text()"),
    "dots": Edit("open('data/../assets/x.csv').read()"),
    "chdir": Edit(
        "import os; os.chdir('assets')\ntry: open('x.csv').read()\nfinally: os.chdir('..')"
    ),
    "environment's path": Edit("import os; open(os.environ['PWD'] + '/assets/x.csv').read()"),
    "getattr": Edit("getattr(Path('assets/x.csv'), 'read_' + 'text')()"),
    "class attribute": Edit("K.p.read_text()", "class K: p = Path('assets/x.csv')"),
    "property": Edit("K().p", "class K:\n    p = property(lambda s: open('assets/x.csv').read())"),
    "dataclass default": Edit(
        "open(K().p).read()",
        "from dataclasses import dataclass\n@dataclass\nclass K: p: str = 'assets/x.csv'",
    ),
    "default argument": Edit("f()", "def f(p='assets/x.csv'): return open(p).read()"),
    "closure": Edit("g('assets/x.csv')()", "def g(p): return lambda: open(p).read()"),
    "partial": Edit("g()", "import functools\ng = functools.partial(np.load, 'assets/x.npy')"),
    "decorator": Edit(
        "f()",
        "def d(f): return lambda: f(open('assets/x.csv').read())\n@d\ndef f(x): return x",
    ),
    "generator": Edit("list(g())", "def g(): yield from open('assets/x.csv')"),
    "context manager": Edit(
        "with g(): pass",
        "import contextlib\n@contextlib.contextmanager\ndef g(): yield open('assets/x.csv').read()",
    ),
    "cache": Edit(
        "f()", "import functools\n@functools.cache\ndef f(): return open('assets/x.csv')"
    ),
    "map": Edit("list(map(np.load, ['assets/x.npy']))"),
    "exec": Edit("exec(\"open('assets/x.csv').read()\")"),
    "top of the module": Edit(top="T = np.loadtxt('assets/x.csv', delimiter=',')"),
    "swallowed": Edit("try: open('assets/x.csv').read()\nexcept Exception: pass"),
    "swallowed whole": Edit("try: open('assets/x.csv').read()\nexcept BaseException: pass"),
    "thread": Edit(
        "import threading; t = threading.Thread(target=np.load, args=['assets/x.npy'])\n"
        "t.start(); t.join()"
    ),
    "pool of threads": Edit(
        "from concurrent.futures import ThreadPoolExecutor as E\n"
        "E().submit(np.load, 'assets/x.npy').exception()"
    ),
    # folders
    "glob": Edit("import glob; glob.glob('assets/*.csv')", word="assets"),
    "Path.glob": Edit("list(Path('assets').glob('*.csv'))", word="assets"),
    "rglob": Edit("list(Path('assets').rglob('*'))", word="assets"),
    "iterdir": Edit("list(Path('assets').iterdir())", word="assets"),
    "listdir": Edit("import os; os.listdir('assets')", word="assets"),
    "scandir": Edit("import os; list(os.scandir('assets'))", word="assets"),
    "walk": Edit("import os; list(os.walk('assets'))", word="assets"),
    "listdir of all": Edit("import os; os.listdir()", word="the folder ."),
    # modules
    "import": Edit(top="from stages.lib import extra", word="stages/lib/extra.py"),
    "late import": Edit("import stages.lib.extra", word="stages/lib/extra.py"),
    "import_module": Edit(
        "import importlib; importlib.import_module('.extra', 'stages.lib')",
        word="stages/lib/extra.py",
    ),
    "__import__": Edit("__import__('stages.lib.extra')", word="stages/lib/extra.py"),
    "runpy": Edit("import runpy; runpy.run_path('stages/lib/extra.py')", word="extra.py"),
    "spec from file": Edit(
        "import importlib.util as u\ns = u.spec_from_file_location('e', 'stages/lib/extra.py')\n"
        "s.loader.exec_module(u.module_from_spec(s))",
        word="stages/lib/extra.py",
    ),
    "sys.path": Edit("import sys; sys.path.insert(0, 'assets'); import plugin", word="plugin.py"),
    "exec of a file": Edit("exec(open('stages/lib/extra.py').read())", word="extra.py"),
    "importlib.resources": Edit(
        "from importlib import resources; resources.files('assets').joinpath('x.csv').read_text()",
        word="which small does not declare",  # the folder or, from 3.13 on, the one above it
    ),
    "pkgutil": Edit(
        "import pkgutil; pkgutil.get_data('stages.lib.core.files', '../../../assets/x.csv')"
    ),
    # parameters
    "config.value": Edit("config.value('params.yaml', 'small.one', int)", word="small.one"),
    "a section": Edit("config.value('params.yaml', 'small', dict[str, int])", word="small"),
    "config.read": Edit("config.read('params.yaml')['small']", word="params.yaml"),
    "params.yaml by hand": Edit("Path('params.yaml').read_text()", word="params.yaml"),
    "another file's key": Edit("config.value('environment.yaml', 'keras', str)", word="keras"),
    "config's own functions": Edit(
        "settings.append(config._mapping('params.yaml', 'small')['one'])", "", "hermetic"
    ),
    # programs and connections
    "subprocess": Edit("import subprocess; subprocess.run(['cat', 'assets/x.csv'])", word="cat"),
    "a child script": Edit(
        "import subprocess, sys; subprocess.run([sys.executable, 'assets/plugin.py'])",
        word="python",
    ),
    "os.system": Edit("import os; os.system('cat assets/x.csv')", word="cat"),
    "os.popen": Edit("import os; os.popen('cat assets/x.csv').read()", word="starts"),
    "fork": Edit("import os; os.fork() or os._exit(0)", word="starts"),
    "multiprocessing": Edit(
        "import multiprocessing as m; m.get_context('fork').Process(target=print).start()",
        word="starts",
    ),
    "connection": Edit("import socket; socket.create_connection(('127.0.0.1', 9))", word="127.0"),
    "urlopen": Edit(
        "import urllib.request as r; r.urlopen('http://127.0.0.1:9')", word="127.0.0.1"
    ),
    # what Python does not see
    "h5py": Edit("import h5py; settings.append(h5py.File('assets/x.h5')['a'][()])", "", "hermetic"),
    "exists": Edit("settings.append(Path('assets/x.csv').exists())", "", "hermetic"),
    "size": Edit("import os; settings.append(os.path.getsize('assets/x.csv'))", "", "hermetic"),
    "os.environ": Edit("import os; settings.append(os.environ['COLOUR'])", "", "hermetic"),
    "ctypes": Edit(
        "import ctypes; settings.append(ctypes.CDLL(None).open(b'assets/x.csv', 0) > 0)",
        "",
        "hermetic",
    ),
    "the user": Edit("settings.append(str(Path.home()))", "", "hermetic"),
    "the time": Edit("import time; settings.append(time.time_ns())", "", "hermetic"),
    "chance": Edit("settings.append(np.random.default_rng().random())", "", "hermetic"),
    "an object's address": Edit("settings.append(id(object()))", "", "hermetic"),
    "the folder's name": Edit("settings.append(str(Path.cwd()))", "", "hermetic"),
}
