"""No file imports another that imports it back, however long the way round; imports inside functions count."""

import grimp
import networkx


def test_files_import_each_other_in_no_circle() -> None:
    graph = grimp.build_graph("alrsim", exclude_type_checking_imports=True, cache_dir=None)
    files = networkx.DiGraph(
        (file, other) for file in graph.modules for other in graph.find_modules_directly_imported_by(file)
    )
    circles = {frozenset(part) for part in networkx.strongly_connected_components(files) if len(part) > 1}
    assert circles == set()
