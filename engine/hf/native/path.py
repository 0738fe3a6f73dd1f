import sys

sys.path.insert(0, "/work/main")
import engine.hf

engine.hf.__path__.append("/tmp/jobs/native_pkg")
