"""What general word frequencies do not tell about text messages: answers, abbreviations, and messages that say nothing.

The word lists hold what people text, not what any test text holds; a word belongs here only when its frequency in
films, books and the web misleads.
"""

from __future__ import annotations

import re
from typing import Final


def _by_word(**words: str) -> dict[str, tuple[str, ...]]:
    languages: dict[str, tuple[str, ...]] = {}
    for language, listed in words.items():
        for word in listed.split():
            languages[word] = (*languages.get(word, ()), language)
    return languages


# In a text message these belong to one language, whatever the frequencies say: Spanish "si" is a Portuguese, French and
# Italian word too, but a Brazilian who agrees writes "sim".
DECISIVE: Final = _by_word(
    en="yes yess yeah yep yup yea nope hi hiya hey hello im dont havent whats hows thats tomorow tmrw tmr tonite lmk"
    " asap omw nvm",
    es="¿ ¡ sí si sip sii gracias grasias hola buenos buenas wenas porfa porfis xfa xfavor xfis ahorita orale órale"
    " aver kiero kien tmbn estan dnd",
    pt="sim siim simm nao não naum vc vcs obg obrigado obrigada brigado brigada brigadão oi oie blz vlw flw pfv pfvr"
    " tchau tbm hj qdo cmg ctg vdd ngm mds gnt falou né",
)

# Abbreviations and misspellings that several languages share: frequent in texts of these languages, no verdict alone.
ABBREVIATIONS: Final = _by_word(
    en="u ur ure r n w k bc rn cuz coz msg appt pls plz thx tnx ty sry nah gd gud da dat dis wit wat wen wud shud lil"
    " luv nite tho prob probs apt ive rent fine",
    es="q k d x xq xk pq ke tb tmb bn bno ta toy pa pal aki wey depto apto esta mande pago pague ud uds sep ola",
    pt="q d n pq tb tmb qm qnd ta to td tds tava pra pro pros pras ce cê ne eh aq agr sq kd fds dps mt mto mta"
    " msm alg oq pf bjs abs apto opa ola",
)

_SOUND: Final = re.compile(
    r"o+k+(?:a?y|i|ey)?|kk+|mm+|h+m+|zz+|xx+|(.)\1{2,}|a+h+|o+h+|u+h+|e+h+|w+o+w+|a?(?:j+[aeiou]+)+j*|(?:[hx][aeiou]+){2,}h?"
    r"|(?:rs)+|lo+l|lmao|omg|xd+"
)


def is_sound(word: str) -> bool:
    """Whether a lower-case word is laughter, a hesitation, "ok": nothing to count in a text of any length."""
    return _SOUND.fullmatch(word) is not None


_WORDS_WITHOUT_LANGUAGE: Final = frozenset(
    "¿ ¡ no nop a b e k m o u x y z ay aj jj jk"
    " stop stopall start unstop help info quit end cancel unsubscribe"
    " apt apto unit suite ste st ave rd blvd dr ct fl po box bldg am pm"
    " zelle venmo paypal whatsapp facebook instagram google wifi sms tv pdf gps app cash email internet"
    " hotel final normal total local radio doctor pizza test super metro taxi bus"
    " asdf asdfg asdfgh asdfghjkl qwerty qwertyuiop zxcv zxcvbn hjkl lkj sdf sdfsdf".split()
)
_LONG_NO: Final = re.compile(r"n+o+")


def has_no_language(word: str) -> bool:
    """Whether a lower-case word says nothing when it is all there is: "no", carrier keywords, brands, key mashing."""
    return word in _WORDS_WITHOUT_LANGUAGE or _LONG_NO.fullmatch(word) is not None


_FIRST_NAMES: Final = frozenset(
    "aaron abraham adam adriana adriano alan alberto alejandra alejandro alessandra alex alexander alexandra alexandre"
    " alfredo alice alicia aline amanda amy ana andrea andres andrew angela angelica anna anthony antonia antonio"
    " ariana armando arturo ashley barbara beatriz benjamin bernardo brandon brenda brian bruno bryan caio camila carla"
    " carlos carmen carolina caroline catherine cecilia cesar charles chris christian christina christopher cintia"
    " claudia claudio cristian cristina cynthia daniel daniela danielle danilo david deborah debora denise dennis diana"
    " diego donald dylan edgar edson eduarda eduardo edward elena eliana elizabeth emilio emily emma enrique eric erica"
    " erika esteban eva evelyn fabiana fabio fabiola felipe fernanda fernando flavia flavio francisca francisco frank"
    " gabriel gabriela george gerardo gilberto gloria gonzalo gregory guadalupe guilherme guillermo gustavo hannah"
    " hector heather helena henrique henry hugo igor isaac isabel isabela isabella ivan jacob jaime james janaina jason"
    " javier jeff jennifer jeremy jesica jessica joana joao john johnny jonathan jorge jose joseph joshua juan juana"
    " julia juliana julie julio justin karen karina karla katherine kathleen kelly kenneth kevin kimberly larissa laura"
    " lauren leandro leonardo leticia lisa lorena lucas lucia luciana luciano luis luisa luiz luiza manuel manuela"
    " marcela marcelo marcia marco marcos margaret margarita maria mariana mario marta martha martin mary mateo mateus"
    " matheus matthew mauricio megan melissa michael michelle miguel monica nancy natalia nathan nicholas nicolas"
    " nicole olivia omar oscar pablo pamela patricia patrick paula paulo pedro peter priscila rachel rafael rafaela"
    " ramon raquel raul rebecca regina renata renato ricardo richard robert roberto rodrigo ronald rosa rosana roxana"
    " ruben ryan samantha samuel sandra santiago sara sarah scott sebastian sergio sheila silvia simone sofia sonia"
    " stephanie stephen steven susan tatiana teresa thiago thomas tiago timothy vanessa veronica vicente victor"
    " victoria vinicius virginia vitor viviane walter wanda wellington wesley william wilson yolanda".split()
)
_LONGEST_ADDRESS: Final = 100
# Spelled out, only with a capital: "3 cars on my street" is a sentence.
_STREET: Final = (
    r"(?:(?i:st|ave|rd|blvd|dr|ln|ct|pkwy|hwy)|Street|Avenue|Road|Boulevard|Drive|Lane|Court|Place|Way|Terrace)\b\.?"
)
# Postal codes of the states, without those that are also answers in capitals ("Yes, OK").
_STATES: Final = (
    "AL AK AZ AR CA CO CT DE FL GA ID IL IA KS KY LA MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND PA RI SC SD TN TX UT"
    " VT VA WA WV WI WY DC PR"
)
_STREET_ADDRESS: Final = re.compile(rf"\W*\d+[a-zA-Z]?(?: [\w.'-]+){{1,4}}? {_STREET}(?P<rest>.*)", re.DOTALL)
_ADDRESS_REST: Final = re.compile(r"\W*(?:(?:apt|unit|ste|suite|fl|floor|bldg)\W*\w{1,4}\W*)?", re.IGNORECASE)
_TOWN: Final = re.compile(
    rf"\W*(?:[A-Z][a-z]+ ?){{1,3}}(?P<comma>,?) (?:{'|'.join(_STATES.split())})\b(?P<zip>\W*\d{{5}})?\W*"
)


def is_only_a_name_or_address(text: str) -> bool:
    """Whether a text holds just a person's name ("Rosa Perez") or an address ("45 Elm Ave, New Haven CT").

    Names are told by their capitals, so "rosa perez" is not one.
    """
    text = text.strip()
    if len(text) > _LONGEST_ADDRESS:
        return False
    words = text.split()
    if 1 <= len(words) <= 3 and words[0].lower() in _FIRST_NAMES and all(w.isalpha() and w.istitle() for w in words):
        return True
    town = _TOWN.fullmatch(text)
    if town and (town["comma"] or town["zip"]):
        return True
    street = _STREET_ADDRESS.fullmatch(text)
    if not street:
        return False
    rest = street["rest"].lstrip(" ,.")
    return bool(_ADDRESS_REST.fullmatch(rest) or _TOWN.fullmatch(rest))
