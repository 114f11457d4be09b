"""Edits of a small stage, each of which makes its result depend on something undeclared.

``assets/x.*`` are files of the repository that dvc.yaml does not name. An edit is code at the top
of the module, code in ``main``, and what is expected to catch it: the run itself, or the hermetic
run where C code reads by itself or a file is only looked for. ``none`` stands where docs/audit.md
names what neither catches.
"""

from typing import NamedTuple


class Edit(NamedTuple):
    """One edit.

    Attributes:
        main: Statements in ``main``.
        top: Statements at the top of the module.
        caught: ``run``, ``hermetic`` or ``none``.
        word: What the message of the run names, or the finding of the hermetic run.
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
    "config.checked": Edit("config.checked('params.yaml', 'small', dict)", word="params.yaml"),
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
    # more readers
    "csv.DictReader": Edit("import csv; list(csv.DictReader(open('assets/x.csv')))"),
    "lzma": Edit("import lzma; lzma.open('assets/x.gz')"),
    "io.open_code": Edit("import io, os; io.open_code(os.path.abspath('assets/x.csv'))"),
    "dbm": Edit("import dbm.dumb; dbm.dumb.open('assets/x.db', 'r')"),
    "array": Edit("import array; array.array('b').fromfile(open('assets/x.csv', 'rb'), 1)"),
    "plistlib": Edit("import plistlib; plistlib.load(open('assets/x.xml', 'rb'))"),
    "minidom": Edit("import xml.dom.minidom as m; m.parse('assets/x.xml')"),
    "tokenize": Edit("import tokenize; tokenize.open('assets/plugin.py')", word="plugin.py"),
    "zipfile.Path": Edit("import zipfile; list(zipfile.Path('assets/x.npz').iterdir())"),
    "hashlib": Edit("import hashlib; hashlib.file_digest(open('assets/x.csv', 'rb'), 'md5')"),
    "logging": Edit("import logging.config as c; c.fileConfig('assets/x.toml')"),
    "DataSource": Edit("np.lib.npyio.DataSource(None).open('assets/x.csv')"),
    "NpzFile": Edit("np.lib.npyio.NpzFile(open('assets/x.npz', 'rb'))"),
    "imread": Edit("import matplotlib.image as m; m.imread('assets/x.png')"),
    "Jinja": Edit(
        "import jinja2 as j\n"
        "j.Environment(loader=j.FileSystemLoader('assets')).get_template('x.csv')"
    ),
    "msgspec": Edit("import msgspec; msgspec.json.decode(Path('assets/x.json').read_bytes())"),
    "make_archive": Edit(
        "import shutil, tempfile; shutil.make_archive(tempfile.mkdtemp() + '/a', 'zip', 'assets')",
        word="assets",
    ),
    "shutil.move": Edit("import shutil; shutil.move('assets/x.csv', 'out.txt')"),
    "asyncio": Edit("import asyncio; asyncio.run(asyncio.to_thread(open, 'assets/x.csv'))"),
    "sqlite3 by URI of a path": Edit(
        "import sqlite3; p = Path('assets/x.db').absolute().as_uri() + '?mode=ro'\n"
        "sqlite3.connect(p, uri=True).execute('select 1')"
    ),
    "sqlite3 attached": Edit(
        "import sqlite3; c = sqlite3.connect(':memory:')\n"
        "c.execute(\"attach 'assets/x.db' as b\")\n"
        "settings.append(c.execute('select count(*) from b.sqlite_master').fetchall())",
        "",
        "hermetic",
    ),
    "FreeType": Edit(
        "from PIL import ImageFont; ImageFont.truetype('assets/x.ttf', 9)", "", "hermetic"
    ),
    "is_hdf5": Edit("import h5py; settings.append(h5py.is_hdf5('assets/x.h5'))", "", "hermetic"),
    # what belongs to DVC, to Git, or to other stages
    "dvc.lock": Edit("open('dvc.lock').read()", word="dvc.lock"),
    "dvc.api": Edit("import dvc.api; dvc.api.params_show()", word="which small"),
    "pipeline": Edit(
        "from stages.lib.core import pipeline; pipeline.load(Path())", word="dvc.yaml"
    ),
    "another stage's out": Edit("open('other/out.csv').read()", word="other/out.csv"),
    "a recipe": Edit("import yaml; yaml.safe_load(open('recipes/r.yaml'))", word="recipes/r.yaml"),
    "params.yaml by msgspec": Edit(
        "import msgspec; msgspec.yaml.decode(Path('params.yaml').read_bytes())",
        word="Add `- params.yaml:`, or the keys, to the params of small in dvc.yaml",
    ),
    "its own out": Edit("settings.append(Path('out.txt').read_text())", "", "hermetic"),
    ".checkpoints": Edit("settings.append(Path('.checkpoints/x').read_text())", "", "hermetic"),
    # links and other ways to a file
    "/proc/self/cwd": Edit("open('/proc/self/cwd/assets/x.csv').read()"),
    "/proc/self/root": Edit(
        "import os; open('/proc/self/root' + os.path.abspath('assets/x.csv')).read()"
    ),
    "a link": Edit("open('data/link.csv').read()", word="data/link.csv"),
    "a hard link": Edit("open('data/hard.csv').read()", word="data/hard.csv"),
    "a link from outside": Edit("open(Path('..').resolve() / 'link.csv').read()"),
    "a linked folder in a dep": Edit(
        "open('data/folder/linked/x.csv').read()", word="data/folder/linked/x.csv"
    ),
    "listing a linked folder": Edit(
        "list(Path('data/folder/linked').iterdir())", word="data/folder/linked"
    ),
    "a linked folder, by C": Edit(
        "import h5py; settings.append(h5py.File('data/folder/linked/x.h5')['a'][()])",
        "",
        "hermetic",
    ),
    "dots from an open folder": Edit(
        "import os; f = os.open('stages/lib/core', os.O_RDONLY)\n"
        "settings.append(os.read(os.open('../../../assets/x.csv', os.O_RDONLY, dir_fd=f), 9))",
        "",
        "hermetic",
    ),
    "fchdir": Edit("import os; os.fchdir(os.open('assets', os.O_RDONLY))", word="assets"),
    "chdir upwards": Edit(
        "import os; os.chdir('..')\ntry: open('a path with spaces/assets/x.csv').read()\n"
        "finally: os.chdir('a path with spaces')"
    ),
    "expandvars": Edit(
        "import os; os.environ['D'] = 'assets'; open(os.path.expandvars('$D/x.csv'))"
    ),
    "base64": Edit("import base64; open(base64.b64decode('YXNzZXRzL3guY3N2'))"),
    "Template": Edit("import string; open(string.Template('$d/x.csv').substitute(d='assets'))"),
    "__fspath__": Edit("open(K())", "class K:\n    def __fspath__(self): return 'assets/x.csv'"),
    "enum": Edit("open(K.A.value)", "import enum\nclass K(enum.Enum): A = 'assets/x.csv'"),
    # ways to run code
    "cached_property": Edit(
        "K().p",
        "import functools\nclass K:\n"
        "    p = functools.cached_property(lambda self: open('assets/x.csv').read())",
    ),
    "descriptor": Edit(
        "K.p",
        "class D:\n    def __get__(self, *_): return open('assets/x.csv').read()\nclass K: p = D()",
    ),
    "metaclass": Edit(
        "class K(metaclass=M): pass",
        "class M(type):\n    def __init__(self, *_): open('assets/x.csv').read()",
    ),
    "__init_subclass__": Edit(
        "class L(K): pass", "class K:\n    def __init_subclass__(cls): open('assets/x.csv').read()"
    ),
    "module __getattr__": Edit(
        "from stages.small import lazy",
        "def __getattr__(name):\n    if name == 'lazy': return open('assets/x.csv').read()\n"
        "    raise AttributeError(name)",
    ),
    "coroutine": Edit(
        "import asyncio; asyncio.run(f())", "async def f(): return open('assets/x.csv').read()"
    ),
    "__del__": Edit("K()", "class K:\n    def __del__(self): open('assets/x.csv').read()"),
    "thread at import": Edit(
        "T.join()",
        "import threading\nT = threading.Thread(target=np.load, args=['assets/x.npy'])\nT.start()",
    ),
    "thread that goes on": Edit(
        "import threading; threading.Thread(target=late).start()",
        "import time\ndef late():\n    time.sleep(1)\n    open('assets/x.csv').read()",
    ),
    "atexit": Edit(
        "import atexit; atexit.register(late)", "def late(): open('assets/x.csv').read()"
    ),
    "finalize": Edit(
        "import weakref; weakref.finalize(late, late)", "def late(): open('assets/x.csv').read()"
    ),
    "once accepted": Edit("return lambda: open('assets/x.csv').read()"),
    # more modules
    "zipimport": Edit("import sys; sys.path.insert(0, 'assets/x.zip'); import inzip", word="x.zip"),
    "SourceFileLoader": Edit(
        "from importlib.machinery import SourceFileLoader as L\n"
        "L('e', 'assets/plugin.py').load_module()",
        word="assets/plugin.py",
    ),
    "importfile": Edit("import pydoc; pydoc.importfile('assets/plugin.py')", word="plugin.py"),
    "run_module": Edit("import runpy; runpy.run_module('assets.plugin')", word="plugin.py"),
    "addsitedir": Edit("import site; site.addsitedir('assets')", word="assets"),
    "iter_modules": Edit("import pkgutil; list(pkgutil.iter_modules(['assets']))", word="assets"),
    "shared library": Edit("import ctypes; ctypes.CDLL('./assets/x.so')"),
    "find_spec": Edit(
        "import importlib.util as u; settings.append(u.find_spec('stages.lib.extra') is None)",
        "",
        "hermetic",
    ),
    "undeclared library": Edit(
        "import importlib; importlib.import_module('PIL')", "", "hermetic", "loads pillow"
    ),
    "module outside": Edit(
        "import sys; sys.path.insert(0, OUTSIDE); import outside",
        "",
        "hermetic",
        "outside.py, which no installed package holds",
    ),
    # more programs and connections
    "spawn": Edit(
        "import multiprocessing as m\n"
        "m.get_context('spawn').Process(target=np.load, args=['assets/x.npy']).start()",
        word="starts",
    ),
    "forkserver": Edit(
        "import multiprocessing as m\nm.get_context('forkserver').Process(target=print).start()",
        word="starts",
    ),
    "pool of processes": Edit(
        "from concurrent.futures import ProcessPoolExecutor as E\n"
        "E().submit(np.load, 'assets/x.npy').exception()",
        word="starts",
    ),
    "posix_spawn": Edit("import os; os.posix_spawn('/bin/cat', ['cat'], {})", word="starts cat"),
    "execv": Edit("import os; os.execv('/bin/cat', ['cat', 'assets/x.csv'])", word="starts cat"),
    "pty": Edit("import pty; pty.spawn(['cat', 'assets/x.csv'])", word="starts"),
    "asyncio's program": Edit(
        "import asyncio; asyncio.run(asyncio.create_subprocess_exec('cat', 'assets/x.csv'))",
        word="starts cat",
    ),
    "Git": Edit("import subprocess; subprocess.check_output(['git', 'log'])", word="starts git"),
    "subinterpreter": Edit(
        "try: import _xxsubinterpreters as i\nexcept ImportError: import _interpreters as i\n"
        "i.run_string(i.create(), \"open('assets/x.csv').read()\")",
        word="starts",
    ),
    "libc's system": Edit(
        "import ctypes\nsettings.append(ctypes.CDLL(None).system(b'test -e assets/x.csv'))",
        "",
        "hermetic",
    ),
    "http.client": Edit(
        "import http.client as h; h.HTTPConnection('127.0.0.1', 9).request('GET', '/')",
        word="127.0.0.1",
    ),
    "server": Edit(
        "import socket\nwith socket.socket() as s: s.bind(('127.0.0.1', 0))", word="127.0.0.1"
    ),
    "datagram": Edit(
        "import socket\n"
        "with socket.socket(type=socket.SOCK_DGRAM) as s: s.sendto(b'', ('127.0.0.1', 9))",
        word="127.0.0.1",
    ),
    "name of a host": Edit("import socket; socket.gethostbyname('localhost')", word="localhost"),
    # the surroundings
    "getenv": Edit("import os; settings.append(os.getenv('COLOUR'))", "", "hermetic"),
    "posix.environ": Edit(
        "import posix; settings.append(posix.environ[b'COLOUR'])", "", "hermetic"
    ),
    "/proc/self/environ": Edit(
        "settings.append(b'COLOUR' in open('/proc/self/environ', 'rb').read())", "", "hermetic"
    ),
    "PATH": Edit("import os; settings.append(os.environ['PATH'])", "", "hermetic"),
    "language": Edit("import os; settings.append(os.environ.get('LANG'))", "", "hermetic"),
    "time zone": Edit("import time; settings.append(time.tzname)", "", "hermetic"),
    "date": Edit("import datetime as d; settings.append(str(d.date.today()))", "", "hermetic"),
    "standard input": Edit("import sys; settings.append(sys.stdin.read())", "", "hermetic"),
    "/dev/stdin": Edit("settings.append(open('/dev/stdin').read())", "", "hermetic"),
    "inherited file": Edit("import os; settings.append(os.read(0, 9))", "", "hermetic"),
    "a set's order": Edit("settings.append(list({*'abcdefgh'}))", "", "hermetic"),
    "hash": Edit("settings.append(hash('a'))", "", "hermetic"),
    "np.random": Edit("settings.append(np.random.random())", "", "hermetic"),
    "a folder's order": Edit(
        "import os; settings.append(os.listdir('data/folder'))", "", "hermetic"
    ),
    "glob's order": Edit(
        "settings.append([p.name for p in Path('data/folder').glob('*')])", "", "hermetic"
    ),
    "walk's order": Edit(
        "import os; settings.append([f for _, d, f in os.walk('data/folder') if not d.clear()])",
        "",
        "hermetic",
    ),
    "a dep's time": Edit("settings.append(Path('data/n.txt').stat().st_mtime)", "", "hermetic"),
    "a time in a folder": Edit(
        "settings.append(Path('data/folder/a').stat().st_mtime)", "", "hermetic"
    ),
    "access": Edit("import os; settings.append(os.access('assets/x.csv', 4))", "", "hermetic"),
    "readlink": Edit("import os; settings.append(os.readlink('data/link.csv'))", "", "hermetic"),
    "a file outside": Edit(
        "settings.append(Path(OUTSIDE, 'outside.txt').read_text())",
        "",
        "hermetic",
        "is outside the repository",
    ),
    "a database outside": Edit(
        "import sqlite3; settings.append(sqlite3.connect(OUTSIDE + '/x.db').total_changes)",
        "",
        "hermetic",
        "is outside the repository",
    ),
    "a folder outside": Edit(
        "import os; settings.append(len(os.listdir(OUTSIDE)))",
        "",
        "hermetic",
        "is outside the repository",
    ),
    "the local hour": Edit(
        "import time; settings.append(time.localtime(1700000000).tm_hour)", "", "hermetic"
    ),
    # what DVC does not hash of a folder that is a dep
    "a file of .dvcignore": Edit(
        "open('data/folder/x.log').read()", word="itself: .dvcignore keeps it out of its folder"
    ),
    "a folder of .dvcignore": Edit(
        "list(Path('data/folder/.idle').iterdir())", word="take it out of .dvcignore"
    ),
    "a file of a .dvcignore in a folder above": Edit(
        "open('data/folder/deep/x.tmp').read()",
        word="itself: .dvcignore keeps it out of its folder",
    ),
    "a file of .dvcignore, by C": Edit(
        "import ctypes; settings.append(ctypes.CDLL(None).open(b'data/folder/x.log', 0) > 0)",
        "",
        "hermetic",
    ),
    "an empty folder in a dep": Edit(
        "settings.append(Path('data/folder/bare').is_dir())", "", "hermetic"
    ),
    # what is made and not declared, which DVC would neither keep nor bring back
    "a file moved there": Edit(
        "import shutil; Path(OUTSIDE, 'made').touch(); shutil.move(OUTSIDE + '/made', 'assets/y')",
        word="writes assets/y",
    ),
    "a hard link made": Edit(
        "import os; os.link('data/n.txt', 'assets/y')", word="writes assets/y"
    ),
    "a link made": Edit("import os; os.symlink('n.txt', 'data/y')", word="writes data/y"),
    "a file removed": Edit("Path('assets/x.toml').unlink()", word="writes assets/x.toml"),
    "a file emptied": Edit(
        "import os; os.truncate('assets/x.toml', 0)", word="writes assets/x.toml"
    ),
    "a dep moved away": Edit("import os; os.rename('data/n.txt', 'out.txt')", word="writes data/n"),
    "a file outside linked": Edit(
        "import os; Path('out.txt').unlink(missing_ok=True)\n"
        "os.link(OUTSIDE + '/outside.txt', 'out.txt')",
        "",
        "hermetic",
        "is outside the repository",
    ),
    "a file made by C": Edit(
        "import h5py; h5py.File('data/made.h5', 'w').close()",
        "",
        "hermetic",
        "writes data/made.h5, undeclared",
    ),
    # what none of them catches, see docs/audit.md
    "date of UTC": Edit(
        "import datetime as d; settings.append(str(d.datetime.now(d.UTC).date()))", "", "none"
    ),
    "processors": Edit("import os; settings.append(os.cpu_count())", "", "none"),
    "Python's version": Edit("import sys; settings.append(sys.version)", "", "none"),
    "an installed version": Edit(
        "from importlib import metadata; settings.append(metadata.version('pillow'))", "", "none"
    ),
    "the system's files": Edit("settings.append(Path('/etc/passwd').read_text())", "", "none"),
}

# In a process that imports TensorFlow, whose own code reads
TENSORFLOW = {
    "tf.io.read_file": "tf.io.read_file('assets/x.csv').numpy()",
    "tf.io.gfile": "tf.io.gfile.GFile('assets/x.csv').read()",
    "tf.io.gfile.glob": "tf.io.gfile.glob('assets/*.csv')",
    "tf.io.gfile.exists": "tf.io.gfile.exists('assets/x.csv')",
    "TFRecordDataset": "[t.numpy() for t in tf.data.TFRecordDataset('assets/x.tfrecord')]",
    "TextLineDataset": "[t.numpy() for t in tf.data.TextLineDataset('assets/x.csv')]",
    "list_files": "[t.numpy() for t in tf.data.Dataset.list_files('assets/*.csv')]",
    "load_model": "tf.keras.models.load_model('assets/x.h5')",
}
