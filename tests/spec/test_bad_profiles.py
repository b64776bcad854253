"""Bad profile files, each with the message that its author gets."""

from pathlib import Path

import pytest

from alrsim.errors import AlrsimError, FileError, ProfileError
from alrsim.hardware.profile import load_profile
from alrsim.hardware.review import validate_profile

GOOD = """\
name: mine
device: my accelerator
kind: accelerator
units: 2
unit:
  peak_tflops_dense:
    bf16: {value: 100, dense: true, source: me, confidence: measured}
  efficiency:
    bf16: {points: [[1000, 0.2], [2000, 0.5]], source: me, confidence: measured}
  memory_gb: {value: 80, source: me, confidence: measured}
  memory_bandwidth_gb_per_s: {value: 2000, source: me, confidence: measured}
  launch_overhead_us: {value: 5, source: me, confidence: measured}
links:
  topology: ring
  bandwidth_gb_per_s_per_direction: {value: 50, source: me, confidence: measured}
  latency_us: {value: 1, source: me, confidence: measured}
"""
MEMORY = "memory_gb: {value: 80, source: me, confidence: measured}"
PEAK = "bf16: {value: 100, dense: true, source: me, confidence: measured}"
LATENCY = "latency_us: {value: 1, source: me, confidence: measured}"
POINTS = "bf16: {points: [[1000, 0.2], [2000, 0.5]], source: me, confidence: measured}"
BANDWIDTH = "  bandwidth_gb_per_s_per_direction: {value: 50, source: me, confidence: measured}\n"

# (what is replaced, by what, place, message, hint)
EDITS = {
    "a unit is missing in a key": (
        MEMORY,
        "memory: {value: 80, source: me, confidence: measured}",
        "line 10, unit.memory",
        "unknown key 'memory'",
        "did you mean memory_gb? The unit belongs to the key",
    ),
    "a bare number under a key without its unit": (
        MEMORY,
        "memory: 80",
        "line 10, unit.memory",
        "unknown key 'memory'",
        "did you mean memory_gb?",
    ),
    "another unit": (
        MEMORY,
        MEMORY.replace("memory_gb", "memory_mb"),
        "line 10, unit.memory_mb",
        "unknown key 'memory_mb'",
        "memory_gb",
    ),
    "a link bandwidth without its unit": (
        "bandwidth_gb_per_s_per_direction",
        "bandwidth",
        "line 15, links.bandwidth",
        "unknown key 'bandwidth'",
        "did you mean bandwidth_gb_per_s_per_direction?",
    ),
    "a latency without its unit": (LATENCY, LATENCY.replace("_us", ""), "links.latency", "unknown key", "latency_us"),
    "a misspelt key": ("topology", "topolgy", "line 14, links.topolgy", "unknown key 'topolgy'", "topology"),
    "an unknown key at the top": (
        "units: 2",
        "units: 2\ncolour: red",
        "line 5, colour",
        "unknown key 'colour'",
        "name",
    ),
    "an unknown key in a figure": (
        PEAK,
        PEAK.replace("}", ", sparse: false}"),
        "unit.peak_tflops_dense.bf16.sparse",
        "unknown key 'sparse'",
        "dense",
    ),
    "a figure without its source": (
        MEMORY,
        "memory_gb: {value: 80, confidence: measured}",
        "line 10, unit.memory_gb.source",
        "missing key 'source'",
        "say where the figure was read",
    ),
    "a figure without its confidence": (
        MEMORY,
        "memory_gb: {value: 80, source: me}",
        "unit.memory_gb.confidence",
        "missing key 'confidence'",
        "vendor, secondary, derived, measured, unverified",
    ),
    "an empty source": (MEMORY, MEMORY.replace("me,", "'',"), "unit.memory_gb.source", "text that is not empty", ""),
    "a confidence of its own making": (
        MEMORY,
        MEMORY.replace("measured", "certain"),
        "unit.memory_gb.confidence",
        "must be 'vendor', 'secondary', 'derived', 'measured' or 'unverified', is 'certain'",
        "",
    ),
    "a figure that is a bare number": (
        MEMORY,
        "memory_gb: 80",
        "line 10, unit.memory_gb",
        "must be a section with value, source and confidence, is the bare number 80",
        "write {value: 80, source: ...",
    ),
    "a negative number": (
        MEMORY,
        MEMORY.replace("80", "-80"),
        "line 10, unit.memory_gb.value",
        "must be greater than 0, is -80",
        "",
    ),
    "a negative latency": (
        LATENCY,
        LATENCY.replace("1", "-1"),
        "links.latency_us.value",
        "must be at least 0, is -1",
        "",
    ),
    "a zero peak": (PEAK, PEAK.replace("100", "0"), "peak_tflops_dense.bf16.value", "must be greater than 0, is 0", ""),
    "a number with its unit inside": (
        MEMORY,
        MEMORY.replace("80", "80 GB"),
        "unit.memory_gb.value",
        "must be a number, is '80 GB' (text)",
        "without quotes or units",
    ),
    "an exponent that YAML does not read": (
        MEMORY,
        MEMORY.replace("80", "1e3"),
        "unit.memory_gb.value",
        "must be a number, is '1e3' (text)",
        "1.0e+3",
    ),
    "an infinite figure": (MEMORY, MEMORY.replace("80", ".inf"), "unit.memory_gb.value", "must be a finite number", ""),
    "a figure that is not a number": (
        MEMORY,
        MEMORY.replace("80", ".nan"),
        "unit.memory_gb.value",
        "finite number",
        "",
    ),
    "yes for a number": (MEMORY, MEMORY.replace("80", "yes"), "memory_gb.value", "is True (true or false)", ""),
    "an empty value": (MEMORY, MEMORY.replace("80", ""), "memory_gb.value", "must be a number, is None (nothing)", ""),
    "a sparse peak": (
        PEAK,
        PEAK.replace("dense: true", "dense: false"),
        "unit.peak_tflops_dense.bf16.dense",
        "dense must be true, is False",
        "half of a 2:4 sparse one",
    ),
    "a peak that does not say dense": (
        PEAK,
        PEAK.replace("dense: true, ", ""),
        "unit.peak_tflops_dense.bf16.dense",
        "missing key 'dense'",
        "halve it first",
    ),
    "an unknown precision": (
        PEAK,
        PEAK.replace("bf16", "fp64"),
        "unit.peak_tflops_dense.fp64",
        "unknown precision 'fp64'",
        "fp32, tf32, bf16",
    ),
    "a peak of noise that is not stored": (
        PEAK,
        f"{PEAK}\n    regenerated: {{value: 1, dense: true, source: me, confidence: measured}}",
        "unit.peak_tflops_dense",
        "nothing computes in 'regenerated'",
        "",
    ),
    "a share above one": ("0.5]", "1.5]", "unit.efficiency.bf16.points[1][1]", "must be at most 1, is 1.5", ""),
    "a share of nothing": ("0.2]", "0]", "unit.efficiency.bf16.points[0][1]", "must be greater than 0, is 0", ""),
    "points that do not ascend": ("2000", "1000", "unit.efficiency.bf16.points", "macs of the points must ascend", ""),
    "a point of three": (
        "[1000, 0.2]",
        "[1000, 0.2, 3]",
        "efficiency.bf16.points[0]",
        "must have at most 2 entries",
        "",
    ),
    "no points": ("[[1000, 0.2], [2000, 0.5]]", "[]", "efficiency.bf16.points", "must have at least 1 entries", ""),
    "an efficiency without a peak": (
        "    bf16: {points",
        "    fp16: {points",
        "unit.efficiency",
        "fp16 has no peak that it could be a share of",
        "",
    ),
    "an unknown topology": (
        "ring",
        "star",
        "line 14, links.topology",
        "must be 'all_to_all', 'switch', 'ring', 'bus' or 'none', is 'star'",
        "",
    ),
    "links without a bandwidth": (
        BANDWIDTH,
        "",
        "links",
        "give bandwidth_gb_per_s_per_direction, or no_copy: true",
        "",
    ),
    "links without a latency": (f"  {LATENCY}\n", "", "links", "give latency_us beside", ""),
    "a bandwidth where nothing is copied": (LATENCY, f"{LATENCY}\n  no_copy: true", "links", "moves no bytes", ""),
    "a bandwidth where there are no links": ("ring", "none", "links", "topology none has no bandwidth", ""),
    "no units": ("units: 2", "units: 0", "line 4, units", "must be at least 1, is 0", ""),
    "half a unit": ("units: 2", "units: 2.5", "line 4, units", "must be a whole number, is 2.5", ""),
    "no number of units": ("units: 2\n", "", "units", "missing; a profile of kind accelerator needs it", ""),
    "no memory": (f"  {MEMORY}\n", "", "unit.memory_gb", "missing; a profile of kind accelerator needs it", ""),
    "no peak": (
        f"  peak_tflops_dense:\n    {PEAK}\n  efficiency:\n    {POINTS}\n",
        "",
        "unit.peak_tflops_dense",
        "at least one precision",
        "",
    ),
    "an unknown kind": ("kind: accelerator", "kind: gpu", "line 3, kind", "must be 'abstract', 'accelerator'", ""),
    "cores of an accelerator": (
        "units: 2",
        "units: 2\nshared_cores: 2",
        "shared_cores",
        "cannot have shared_cores",
        "",
    ),
    "a host without cores": ("kind: accelerator", "kind: host", "shared_cores", "kind host needs shared_cores", ""),
    "groups of an accelerator": (
        "units: 2",
        "units: 2\ngroups: [{name: a, profile: h100, units: 1}]",
        "line 5, groups",
        "only a heterogeneous profile has groups",
        "",
    ),
    "a name with spaces": ("name: mine", "name: My Card", "line 1, name", "lower-case letters, digits", ""),
    "a key given twice": (
        "units: 2",
        "units: 2\nunits: 3",
        "line 5, units",
        "key 'units' is given twice, first on line 4",
        "",
    ),
    "a key that is a number": ("units: 2", "units: 2\n7: 3", "line 5", "key 7 must be a word", "quote it"),
    "a key that YAML reads as true": ("units: 2", "units: 2\non: 3", "line 5", "key on must be a word", ""),
    "an anchor": ("units: 2", "units: &a 2", "line 4", "anchors and aliases (& and *) are not allowed", ""),
    "a tag": ("units: 2", "units: !!python/name:os.system x", "line 4, units", "tag:yaml.org,2002:python", ""),
    "a tag on a list": ("[1000, 0.2]", "!!set [1000, 0.2]", "points[0]", "tag", ""),
    "an open bracket": ("units: 2", "units: [2", "line 5", "is not valid YAML", ""),
    "a tab": ("units: 2", "units:\n\t- 2", "line 5", "is not valid YAML", ""),
    "a second document": ("units: 2", "units: 2\n---\nname: other", "line", "is not valid YAML", ""),
    "a word that is no section": ("unit:\n", "unit: fast\nnotes:\n", "unit", "", ""),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_bad_profile_is_refused_with_file_key_path_and_reason(what: str, tmp_path: Path) -> None:
    old, new, place, message, hint = EDITS[what]
    assert GOOD.count(old) >= 1
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert caught.value.where.startswith(f"{path}")
    assert place in caught.value.where
    assert message in caught.value.what
    assert hint in caught.value.fix
    assert any(finding.severity == "error" and message in finding.message for finding in validate_profile(path))


def test_the_profile_that_the_table_spoils_is_good(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    assert load_profile(tmp_path / "mine.yaml").name == "mine"
    assert validate_profile(tmp_path / "mine.yaml") == ()


WHOLE = {
    "nothing": (b"", "is empty"),
    "only a comment": (b"# later\n", "is empty"),
    "a list": (b"- 1\n- 2\n", "must be a section of keys"),
    "a word": (b"h100\n", "must be a section of keys"),
    "bytes that are not text": (b"\xff\xfe\x00", "is not a text file"),
    "a control character": (b"name: a\x00b\n", "is not valid YAML"),
    "a deep nest": (b"[" * 3000, "nested more than 20 levels deep"),
    "a file of a size that no profile has": (b"# \n" * 400_000, "at most 1000000 are read"),
}


@pytest.mark.parametrize("what", WHOLE)
def test_a_file_that_is_no_profile_at_all_is_refused(what: str, tmp_path: Path) -> None:
    content, message = WHOLE[what]
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(AlrsimError) as caught:
        load_profile(path)
    assert str(path) in caught.value.where
    assert message in caught.value.what


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        load_profile(tmp_path / "none.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(FileError, match="cannot be read"):
        load_profile(tmp_path / "folder.yaml")
    with pytest.raises(ProfileError, match="neither a shipped profile nor a file"):
        validate_profile("no-such-thing")


MIXED = """\
name: mixed
device: two things
kind: heterogeneous
groups:
  - {name: fast, profile: h100, units: 1}
  - {name: slow, profile: cpu-2core, units: 2}
links_between_groups:
  - {between: [fast, slow], topology: bus, no_copy: true}
"""
GROUP_EDITS = {
    "an unknown group": ("[fast, slow]", "[fast, big]", "links_between_groups[0].between", "no group is called 'big'"),
    "a group with itself": ("[fast, slow]", "[fast, fast]", "links_between_groups[0].between", "must be two groups"),
    "two groups of one name": ("name: slow", "name: fast", "groups", "names are not unique: fast, fast"),
    "an unknown profile": ("profile: h100", "profile: h900", "line 5, groups[0].profile", "cannot use 'h900'"),
    "a mixture in a mixture": ("h100", "hetero-h100-l4-cpu", "groups[0].profile", "is heterogeneous itself"),
    "a mixture of itself": ("h100", "mixed", "groups[0].profile", "is heterogeneous itself"),
    "more units than cores": ("units: 2", "units: 3", "groups[1].profile", "which has 2 cores"),
    "a number of units": ("groups:", "units: 3\ngroups:", "line 4, units", "has groups instead"),
    "one group": ("  - {name: slow, profile: cpu-2core, units: 2}\n", "", "groups", "at least two groups"),
    "an unknown key in a group": ("units: 1}", "units: 1, speed: 2}", "groups[0].speed", "unknown key 'speed'"),
    "a ring between groups": ("bus", "ring", "links_between_groups[0].topology", "must be 'all_to_all' or 'bus'"),
    "a link of three": (
        "[fast, slow]",
        "[fast, slow, x]",
        "links_between_groups[0].between",
        "must have at most 2 entries",
    ),
}


@pytest.mark.parametrize("what", GROUP_EDITS)
def test_a_bad_mixture_is_refused_with_file_key_path_and_reason(what: str, tmp_path: Path) -> None:
    old, new, place, message = GROUP_EDITS[what]
    assert old in MIXED
    path = tmp_path / "mixed.yaml"
    path.write_text(MIXED.replace(old, new, 1))
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert place in caught.value.where
    assert message in caught.value.what


def test_a_group_whose_own_file_is_bad_says_where(tmp_path: Path) -> None:
    (tmp_path / "h100.yaml").write_text(GOOD.replace("units: 2", "units: none"))
    (tmp_path / "mixed.yaml").write_text(MIXED)
    with pytest.raises(ProfileError, match=r"cannot use 'h100': .*h100.yaml, line 4, units: must be a whole number"):
        load_profile(tmp_path / "mixed.yaml")


def test_all_faults_of_a_file_are_listed_in_its_order_and_the_first_is_raised(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace("80", "-80").replace("topology: ring", "topology: star").replace("kind: ", "sort: "))
    findings = validate_profile(path)
    assert [finding.line for finding in findings] == sorted(finding.line or 0 for finding in findings)
    assert {finding.where for finding in findings} == {"kind", "sort", "unit.memory_gb.value", "links.topology"}
    with pytest.raises(ProfileError, match="and 3 more"):
        load_profile(path)


DOUBTS = {
    "a sparse peak by its formula": (
        PEAK,
        PEAK.replace(
            "}", ", derivation: {units: 10, ops_per_unit_per_clock: 5000, clock_ghz: 1.0, formula: 10 x 5000 x 1 GHz}}"
        ),
        "unit.peak_tflops_dense.bf16",
        "is 100, but 10 x 5000 x 1 GHz gives 50",
    ),
    "a sparse peak by its neighbour": (
        PEAK,
        f"{PEAK}\n    int8: {{value: 800, dense: true, source: me, confidence: measured}}",
        "unit.peak_tflops_dense.int8",
        "is 8.0 times the 16-bit peak",
    ),
    "an fp32 above bf16": (
        PEAK,
        f"{PEAK}\n    fp32: {{value: 400, dense: true, source: me, confidence: measured}}",
        "unit.peak_tflops_dense.fp32",
        "is above the 16-bit peak",
    ),
    "a link faster than half the memory": (
        "value: 50",
        "value: 1800",
        "links.bandwidth_gb_per_s_per_direction",
        "more than half of the memory bandwidth",
    ),
    "an unverified figure": (MEMORY, MEMORY.replace("measured", "unverified"), "unit.memory_gb", "is unverified (me)"),
    "a name that is not the file's": ("name: mine", "name: yours", "name", "is 'yours', but the file is called 'mine'"),
}


@pytest.mark.parametrize("what", DOUBTS)
def test_a_doubtful_profile_loads_and_validate_warns(what: str, tmp_path: Path) -> None:
    old, new, where, message = DOUBTS[what]
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    load_profile(path)
    (finding,) = validate_profile(path)
    assert (finding.severity, finding.where) == ("warning", where)
    assert message in finding.message
