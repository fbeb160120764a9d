import gzip
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from naturelm.corpus.taxonomy import Taxon, Taxonomy, TaxonomyError

TAXON_HEADER = [
    "taxonID",
    "datasetID",
    "parentNameUsageID",
    "acceptedNameUsageID",
    "originalNameUsageID",
    "scientificName",
    "scientificNameAuthorship",
    "canonicalName",
    "genericName",
    "specificEpithet",
    "infraspecificEpithet",
    "taxonRank",
    "nameAccordingTo",
    "namePublishedIn",
    "taxonomicStatus",
    "nomenclaturalStatus",
    "taxonRemarks",
    "kingdom",
    "phylum",
    "class",
    "order",
    "family",
    "genus",
]
VERNACULAR_HEADER = [
    "taxonID",
    "vernacularName",
    "language",
    "country",
    "countryCode",
    "sex",
    "lifeStage",
    "source",
]
TITS = ("Animalia", "Chordata", "Aves", "Passeriformes", "Paridae")


def row(
    id: int,
    name: str,
    rank: str,
    parent: int,
    above: tuple[str, ...],
    *,
    accepted: int | None = None,
    status: str = "accepted",
) -> dict[str, str]:
    cells = {
        "taxonID": str(id),
        "parentNameUsageID": str(parent),
        "acceptedNameUsageID": "" if accepted is None else str(accepted),
        "scientificName": f"{name} Linnaeus, 1758",
        "canonicalName": name,
        "taxonRank": rank,
        "taxonomicStatus": status,
    }
    return cells | dict(zip(TAXON_HEADER[-6:], above, strict=False))


ROWS = [
    row(44, "Chordata", "phylum", 1, TITS[:2]),
    row(5, "Paridae", "family", 4, TITS),
    row(6, "Parus", "genus", 5, (*TITS, "Parus")),
    row(10, "Parus major", "species", 6, (*TITS, "Parus")),
    row(11, "Parus major newtoni", "subspecies", 10, (*TITS, "Parus")),
    row(12, "Parus newtoni", "species", 6, (*TITS, "Parus"), accepted=11, status="homotypic synonym"),
    row(13, "Parus fringillago", "species", 6, (*TITS, "Parus"), accepted=10, status="synonym"),
    row(14, "Parus ater", "species", 6, (*TITS, "Parus"), accepted=21, status="misapplied"),
    row(7, "Cyanistes", "genus", 5, (*TITS, "Cyanistes")),
    row(20, "Cyanistes caeruleus", "species", 7, (*TITS, "Cyanistes"), status="doubtful"),
    row(21, "Cyanistes caeruleus", "species", 7, (*TITS, "Cyanistes")),
    row(22, "Parus caeruleus", "species", 6, (*TITS, "Cyanistes"), accepted=21, status="synonym"),
    row(23, "Cyanistes caeruleus ogliastrae", "subspecies", 21, (*TITS, "Cyanistes")),
    row(30, "BOLD:AAA1234", "unranked", 6, (*TITS, "Parus")),
    row(31, "Bellis perennis", "species", 2, ("Plantae", "Tracheophyta")),
]
VERNACULARS = [
    (10, "Great Tit", "en"),
    (10, "great tit", "en"),
    (10, "Kohlmeise", "de"),
    (10, "Tit-mouse", "en"),
    (10, "Great Tit", "en"),
    (11, "English Great Tit", "en"),
    (21, "Blue Tit", "eng"),
    (31, "Daisy", "en"),
]


def table(header: list[str], rows: list[dict[str, str]]) -> str:
    lines = ["\t".join(header), *("\t".join(cells.get(name, "") for name in header) for cells in rows)]
    return "\n".join(lines) + "\n"


def taxon_table() -> str:
    return table(TAXON_HEADER, ROWS)


def vernacular_table() -> str:
    cells = [{"taxonID": str(id), "vernacularName": name, "language": code} for id, name, code in VERNACULARS]
    return table(VERNACULAR_HEADER, cells)


def backbone(folder: Path) -> Path:
    (folder / "Taxon.tsv").write_text(taxon_table(), encoding="utf-8")
    (folder / "VernacularName.tsv").write_text(vernacular_table(), encoding="utf-8")
    return folder


def zipped(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "backbone.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("backbone/Taxon.tsv", taxon_table())
        archive.writestr("backbone/VernacularName.tsv", vernacular_table())
    return folder / "backbone.zip"


def simple_lines() -> str:
    keys = {"Animalia": "1", "Chordata": "44", "Paridae": "5", "Parus": "6", "Cyanistes": "7"}
    lines = []
    for cells in ROWS:
        synonym = cells["acceptedNameUsageID"]
        lines.append(
            [
                cells["taxonID"],
                synonym or cells["parentNameUsageID"],
                r"\N",
                "t" if synonym else "f",
                cells["taxonomicStatus"].upper().replace(" ", "_"),
                cells["taxonRank"].upper(),
                "{}",
                *[r"\N"] * 3,
                *(keys.get(cells.get(name, ""), r"\N") for name in TAXON_HEADER[-6:]),
                r"\N",
                "99",
                cells["scientificName"],
                cells["canonicalName"],
                *[r"\N"] * 10,
            ]
        )
    return "".join("\t".join(line) + "\n" for line in lines)


def simple(folder: Path) -> Path:
    path = folder / "backbone-current-simple.txt.gz"
    path.write_bytes(gzip.compress(simple_lines().encode()))
    return path


def found(taxonomy: Taxonomy, name: str) -> tuple[str, str]:
    match = taxonomy.resolve(name)
    return match.how, match.taxon.taxonomic_name if match.taxon else ""


@pytest.mark.parametrize("layout", [backbone, zipped])
def test_the_gbif_backbone(tmp_path: Path, layout: type[Path]) -> None:
    taxonomy = Taxonomy.open(layout(tmp_path))
    tit, blue = (
        "Chordata Aves Passeriformes Paridae Parus major",
        "Chordata Aves Passeriformes Paridae Cyanistes caeruleus",
    )
    assert found(taxonomy, "Parus major Linnaeus, 1758") == ("accepted", tit)
    assert found(taxonomy, "Parus fringillago") == ("synonym", tit)
    assert found(taxonomy, "Parus newtoni") == ("synonym", tit)
    assert found(taxonomy, "Parus major newtoni") == ("subspecies", tit)
    assert found(taxonomy, "Parus caeruleus") == ("synonym", blue)
    assert found(taxonomy, "great  tit") == ("common name", tit)
    assert found(taxonomy, "english great tit") == ("common name", tit)
    assert found(taxonomy, "blue tit") == ("common name", blue)
    assert [found(taxonomy, name)[0] for name in ("Kohlmeise", "Parus ater", "Bellis perennis", "daisy")] == [
        "unknown"
    ] * 4
    assert taxonomy.resolve("Paridae").taxon == Taxon(
        "Paridae",
        family="Paridae",
        order="Passeriformes",
        class_name="Aves",
        phylum="Chordata",
        rank="family",
    )
    species = taxonomy.resolve("Great Tit").taxon
    assert species is not None
    assert species.common_name == "Great Tit"
    assert species.other_names == ("Tit-mouse", "English Great Tit")
    assert species.synonyms == ("Parus newtoni", "Parus fringillago")
    assert len(taxonomy) == 6


def test_languages_and_kingdom_can_be_chosen(tmp_path: Path) -> None:
    german = Taxonomy.from_gbif(backbone(tmp_path), languages=("de",))
    assert found(german, "Kohlmeise")[0] == "common name"
    plants = Taxonomy.from_gbif(tmp_path, kingdom="Plantae")
    assert [taxon.scientific_name for taxon in plants] == ["Bellis perennis"]
    with pytest.raises(TaxonomyError, match="'Animals': no kingdom of the backbone; use one of Animalia"):
        Taxonomy.from_gbif(tmp_path, kingdom="Animals")


@pytest.mark.parametrize("layout", [backbone, zipped])
@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (["parus_major"], ["Parus major"]),
        (["Parus newtoni"], ["Parus major"]),
        (["Parus major newtoni Pražák, 1894"], ["Parus major"]),
        (["ENGLISH great-tit"], ["Parus major"]),
        (["Parus sp."], ["Parus"]),
        (["Parus major x Parus caeruleus"], ["Parus major", "Cyanistes caeruleus"]),
        (["Bellis perennis", "nothing"], []),
        ([], []),
    ],
)
def test_only_wanted_taxa_are_kept(
    tmp_path: Path, layout: type[Path], wanted: list[str], kept: list[str]
) -> None:
    path = layout(tmp_path)
    taxonomy, whole = Taxonomy.from_gbif(path, wanted=wanted), Taxonomy.from_gbif(path)
    assert [taxon.scientific_name for taxon in taxonomy] == kept
    for name in wanted:
        assert taxonomy.resolve(name) == whole.resolve(name)


@pytest.mark.parametrize("wanted", [None, ["Parus newtoni", "Parus caeruleus"]])
def test_the_simple_dump_says_the_same_as_the_archive(tmp_path: Path, wanted: list[str] | None) -> None:
    path = simple(tmp_path)
    taxonomy = Taxonomy.open(path, wanted=wanted)
    assert found(taxonomy, "Parus newtoni") == ("synonym", "Chordata Paridae Parus major")
    assert found(taxonomy, "Parus caeruleus") == ("synonym", "Chordata Paridae Cyanistes caeruleus")
    assert len(taxonomy) == (6 if wanted is None else 2)
    (tmp_path / "simple.txt").write_text(simple_lines(), encoding="utf-8")
    assert list(Taxonomy.open(tmp_path, wanted=wanted)) == list(taxonomy)


CLEMENTS = {
    "ebird2019": "TAXON_ORDER,CATEGORY,SPECIES_CODE,PRIMARY_COM_NAME,SCI_NAME,ORDER1,FAMILY,SPECIES_GROUP,REPORT_AS\n"
    "2,species,ostric2,Common Ostrich,Struthio camelus,Struthioniformes,Struthionidae (Ostriches),Ostriches,\n"
    "3,issf,ostric3,Common Ostrich (Masai),Struthio camelus massaicus,Struthioniformes,Struthionidae (Ostriches),,ostric2\n"
    "4,slash,y00934,Common/Somali Ostrich,Struthio camelus/molybdophanes,Struthioniformes,Struthionidae (Ostriches),,\n"
    "5,spuh,x1,ostrich sp.,Struthio sp.,Struthioniformes,Struthionidae (Ostriches),,\n",
    "ebird2023": "\ufeffTAXON_ORDER,CATEGORY,SPECIES_CODE,TAXON_CONCEPT_ID,PRIMARY_COM_NAME,"
    "SCI_NAME,ORDER,FAMILY,SPECIES_GROUP,REPORT_AS\n"
    "2,species,ostric2,avibase-2247CB05,Common Ostrich,"
    "Struthio camelus,Struthioniformes,Struthionidae (Ostriches),Ostriches,\n",
    "clements2023": "sort v2023,species_code,Clements v2023b change,text for website v2023b,category,English name,"
    "scientific name,authority,name and authority,range,order,family,extinct,extinct year,sort v2022,page 6.0\n"
    '2,ostric2,,"a, ""b""\nc",species,Common Ostrich,Struthio camelus,,,,Struthioniformes,Struthionidae (Ostriches),,,2,\n'
    "3,,,,subspecies,,Struthio camelus camelus,,,,Struthioniformes,Struthionidae (Ostriches),,,3,\n"
    ",,,,,,,,,,,,,,,\n",
    "clements2015": "sort v2015,Clements v2015 change,Text for website v2015,Category,"
    "English name,Scientific name,Range,Order,Family\n"
    "2,,,species,Common Ostrich,Struthio camelus,,Struthioniformes,Struthionidae (Ostrich)\n",
    "ebird_api": "SCIENTIFIC_NAME,COMMON_NAME,SPECIES_CODE,CATEGORY,TAXON_ORDER,ORDER,FAMILY_COM_NAME,FAMILY_SCI_NAME\n"
    "Struthio camelus,Common Ostrich,ostric2,species,2,Struthioniformes,Ostriches,Struthionidae\n",
}


@pytest.mark.parametrize("year", CLEMENTS)
def test_clements_checklists_of_several_years(tmp_path: Path, year: str) -> None:
    path = tmp_path / "checklist.csv"
    path.write_text(CLEMENTS[year], encoding="utf-8")
    taxonomy = Taxonomy.open(path)
    (ostrich,) = taxonomy
    assert ostrich.taxonomic_name == "Chordata Aves Struthioniformes Struthionidae Struthio camelus"
    assert (ostrich.common_name, ostrich.genus) == ("Common Ostrich", "Struthio")
    assert taxonomy.resolve("Struthio camelus camelus").how == "subspecies"
    assert taxonomy.resolve("Common Ostrich (Masai)").taxon == ostrich
    assert "ostric2" not in taxonomy and "Struthio molybdophanes" not in taxonomy


def test_a_checklist_in_the_encoding_of_windows(tmp_path: Path) -> None:
    header = "category,English name,scientific name,order,family\n"
    text = f"{header}species,Rüppell's Vulture,Gyps rueppelli,Accipitriformes,Accipitridae (Hawks)\n"
    (tmp_path / "clements.csv").write_bytes(text.encode("cp1252"))
    assert "Ruppells vulture" in Taxonomy.from_clements(tmp_path / "clements.csv")


NAME = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="|"), min_size=1, max_size=8)
NAMES = st.lists(NAME, max_size=3).map(tuple)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.tuples(NAME, NAMES, NAMES, st.sampled_from(["species", "genus"])), max_size=5))
def test_a_table_that_is_written_reads_back(
    tmp_path: Path, entries: list[tuple[str, tuple[str, ...], tuple[str, ...], str]]
) -> None:
    taxa = [
        Taxon(
            f"Genus{place} species",
            common,
            "Genus",
            "Family",
            "Order",
            "Class",
            "Phylum",
            rank,
            synonyms,
            others,
        )
        for place, (common, synonyms, others, rank) in enumerate(entries)
    ]
    Taxonomy.from_taxa(taxa).to_csv(tmp_path / "table.csv")
    assert list(Taxonomy.open(tmp_path / "table.csv")) == taxa


def test_the_built_in_table_reads_back(tmp_path: Path) -> None:
    built_in = Taxonomy.built_in()
    built_in.to_csv(tmp_path / "table.csv")
    assert list(Taxonomy.from_csv(tmp_path / "table.csv")) == list(built_in)


def test_a_name_that_would_break_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match=r"Parus major: the name 'a\|b' has a \|; take it out"):
        Taxonomy.from_taxa([Taxon("Parus major", other_names=("a|b",))]).to_csv(tmp_path / "table.csv")


BROKEN = {
    "nothing.csv": (b"", "not a taxonomy that can be read"),
    "other.csv": (b"a,b\n1,2\n", "other.csv: not a taxonomy that can be read; give the GBIF backbone"),
    "utf16.csv": ("scientific_name,rank\n".encode("utf-16"), "utf16.csv: not a text file"),
    "bytes.csv": (b"\x81\xff\xfe", "bytes.csv: not UTF-8 text"),
    "quote.csv": (b'scientific_name,rank\n"' + b"a" * 200_000, "quote.csv: no readable CSV"),
    "rank.csv": (
        b"scientific_name,rank\nParus major,sort\n",
        "line 2: rank 'sort'; use one of subspecies, species",
    ),
    "blank.csv": (b"scientific_name,rank\n ,species\n", "line 2 has no scientific.name"),
    "twice.csv": (
        b"scientific_name,rank\nParus major,species\nparus MAJOR,species\n",
        "line 3 repeats the taxon of line 2",
    ),
    "checklist.csv": (b"category,SCI_NAME\n", "no column English name or PRIMARY_COM_NAME"),
    "bare.csv": (
        b"category,SCI_NAME,PRIMARY_COM_NAME,ORDER,FAMILY\nspecies,,Crow,,\n",
        "line 2 has no scientific.name",
    ),
    "Taxon.tsv": (
        b"taxonID\tkingdom\n",
        "Taxon.tsv: no column parentNameUsageID, .*its header has: taxonID, kingdom",
    ),
    "backbone.zip": (b"PK\x03\x04 not a zip", "backbone.zip: damaged archive .*; download it again"),
    "simple.txt": (
        b"1\t2\t3\n",
        "simple.txt: line 1 is no row of GBIF's simple.txt .3 of 30 columns.; download",
    ),
    "simple.txt.gz": (gzip.compress(b"1\t2\n" * 99)[:-12], "simple.txt.gz: (damaged archive|line 1)"),
    "damaged.txt.gz": (b"no gzip at all", "damaged.txt.gz: damaged archive"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named_with_the_cure(tmp_path: Path, name: str) -> None:
    data, message = BROKEN[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(TaxonomyError, match=message) as error:
        Taxonomy.open(tmp_path / name)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["gone.csv", "gone.zip", "gone.txt.gz", "."])
def test_missing_files_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(TaxonomyError, match=r"no such file|not found; give the unpacked backbone"):
        Taxonomy.open(tmp_path / name)


def test_a_zip_without_the_backbone(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("../Taxon.csv", "")
    with pytest.raises(TaxonomyError, match=r"other.zip/Taxon.tsv: not found; give the unpacked backbone"):
        Taxonomy.open(tmp_path / "other.zip")


@pytest.mark.parametrize("end", [-40, -3])
def test_a_download_that_was_cut_off(tmp_path: Path, end: int) -> None:
    (tmp_path / "Taxon.tsv").write_text(taxon_table()[:end].removesuffix("\t"), encoding="utf-8")
    with pytest.raises(TaxonomyError, match=r"Taxon.tsv: line 16 has \d+ of 23 columns; download it again"):
        Taxonomy.open(tmp_path)


def test_text_that_is_not_utf8_and_a_line_without_end(tmp_path: Path) -> None:
    path = tmp_path / "Taxon.tsv"
    path.write_bytes(taxon_table().encode() + b"\xff\n")
    with pytest.raises(TaxonomyError, match=r"Taxon.tsv: not UTF-8 text .*; download it again"):
        Taxonomy.open(path)
    path.write_bytes(taxon_table().encode() + b"a" * 3_000_000)
    with pytest.raises(TaxonomyError, match=r"Taxon.tsv: a line has over 1048576 characters"):
        Taxonomy.open(path)
    (tmp_path / "VernacularName.tsv").write_text("taxonID\tname\n", encoding="utf-8")
    path.write_text(taxon_table(), encoding="utf-8")
    with pytest.raises(TaxonomyError, match=r"VernacularName.tsv: no column vernacularName, language"):
        Taxonomy.open(path)


def test_subspecies_that_are_each_others_parents_do_no_harm(tmp_path: Path) -> None:
    rows = [
        row(1, "Parus a b", "subspecies", 2, TITS),
        row(2, "Parus a c", "form", 1, TITS),
        row(3, "Parus d", "species", 0, TITS, accepted=1, status="synonym"),
    ]
    (tmp_path / "Taxon.tsv").write_text(table(TAXON_HEADER, rows), encoding="utf-8")
    assert len(Taxonomy.open(tmp_path)) == 0
