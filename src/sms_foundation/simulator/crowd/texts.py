"""What tenants text: conversations about rent, repairs and leasing in three languages, single words, and noise.

A conversation is what one tenant says, line by line; the office's answers are left to the reader. `{day}`, `{time}`,
`{unit}` and `{amount}` are filled from `FILLERS`. All texts were written for this file.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from sms_foundation.simulator.people import Language

Topic = Literal["rent", "repairs", "leasing"]
Conversation = tuple[Topic, Sequence[str]]

_ENGLISH: tuple[Conversation, ...] = (
    ("rent", (
        "Hi, I get paid {day}. Can I pay the rent then without the late fee?",
        "It would be ${amount} on {day} and the rest the week after",
        "Thank you so much for understanding!",
    )),
    ("rent", (
        "I already paid ${amount} through the portal last night but it still shows a balance",
        "The confirmation number ends in 4471",
        "ok great, so I don't owe anything else this month?",
    )),
    ("rent", (
        "Why did my rent go up by ${amount}? Nobody told me",
        "Can someone please call me after {time}?",
    )),
    ("rent", (
        "My hours got cut at work. Is there any payment plan available?",
        "I could do half now and half on {day}.",
        "Yes I can come by the office to sign",
        "Will be there around {time}",
    )),
    ("repairs", (
        "There's no hot water in unit {unit} since this morning",
        "No, the kitchen sink is cold too",
        "Someone can come in {day}, I have a dog but he's friendly",
        "It works again, thanks a lot",
    )),
    ("repairs", (
        "The AC is blowing warm air again and it's 95 degrees in here!!",
        "This is the third time this summer. My baby can't sleep.",
        "What time will the technician get here?",
    )),
    ("repairs", (
        "Water is leaking through my bathroom ceiling, I think it comes from the unit upstairs",
        "It's getting worse, I put a bucket under it",
        "Please hurry, the floor is soaked",
    )),
    ("repairs", (
        "The lock on the front door of the building is broken and anybody can walk in",
        "I sent a photo yesterday too",
        "Appreciate it, have a good evening",
    )),
    ("repairs", (
        "hey the dishwasher in {unit} won't drain",
        "yeah I tried that already, still full of dirty water",
        "{day} after {time} works for me",
    )),
    ("leasing", (
        "Hello, is the two bedroom you posted still available?",
        "Do you allow cats? I have one, she's nine years old",
        "Could I see it {day} at {time}?",
        "Perfect, see you then",
    )),
    ("leasing", (
        "My lease ends next month and I'd like to renew for another year",
        "Is the rent staying at ${amount}?",
        "Sounds good, please send me the papers",
    )),
    ("leasing", (
        "I need to move out early because of a new job in another city. What is the penalty?",
        "When do I get my deposit back?",
    )),
    ("leasing", (
        "Where do I drop off the keys?",
        "The apartment is empty and clean, I took pictures of every room",
    )),
)  # fmt: skip

_SPANISH: tuple[Conversation, ...] = (
    ("rent", (
        "Buenas tardes, cobro el {day}. ¿Puedo pagar la renta ese día sin recargo?",
        "Serían ${amount} el {day} y lo demás la semana que entra",
        "Muchísimas gracias por su comprensión",
    )),
    ("rent", (
        "Ya deposité ${amount} anoche pero todavía me sale un saldo pendiente",
        "El comprobante termina en 4471, ahorita le mando la foto",
        "Entonces, ¿ya no debo nada de este mes?",
    )),
    ("rent", (
        "¿Por qué me subieron ${amount} de renta si nadie me avisó?",
        "Llámeme por favor después de las {time}",
    )),
    ("rent", (
        "Me recortaron horas en el trabajo, ¿hay algún plan de pagos?",
        "Podría dar la mitad hoy y la otra mitad el {day}.",
        "Sí, paso por la oficina a firmar",
        "Llego como a las {time}",
    )),
    ("repairs", (
        "Hola, no hay agua caliente en el departamento {unit} desde la mañana",
        "No, en la cocina tampoco sale caliente",
        "Pueden entrar el {day}, tengo un perro pero no muerde",
        "Ya quedó, muchas gracias",
    )),
    ("repairs", (
        "El aire acondicionado otra vez está echando aire caliente y no se aguanta el calor!!",
        "Es la tercera vez este verano. Mi niña no puede dormir.",
        "¿A qué hora llega el técnico?",
    )),
    ("repairs", (
        "Se está metiendo agua por el techo del baño, creo que viene del vecino de arriba",
        "Cada vez cae más, ya puse una cubeta",
        "Apúrense por favor que se está mojando todo el piso",
    )),
    ("repairs", (
        "La cerradura de la entrada está descompuesta y cualquiera puede pasar",
        "Ayer también les mandé una foto",
        "Se lo agradezco, que tenga buena noche",
    )),
    ("repairs", (
        "oiga, otra vez vi cucarachas en la cocina del {unit}",
        "Sí, ya limpié todo y siguen saliendo",
        "El {day} después de las {time} me queda bien",
    )),
    ("leasing", (
        "Buen día, ¿todavía está disponible el de dos recámaras que anunciaron?",
        "¿Aceptan gatos? Tengo una gatita de nueve años",
        "¿Lo podría ver el {day} a las {time}?",
        "Perfecto, ahí nos vemos",
    )),
    ("leasing", (
        "Mi contrato se vence el mes que viene y quisiera renovarlo por otro año",
        "¿La renta se queda en ${amount}?",
        "Me parece bien, mándeme los papeles por favor",
    )),
    ("leasing", (
        "Me tengo que mudar antes por un trabajo nuevo en otra ciudad. ¿Cuánto es la multa?",
        "¿Cuándo me devuelven el depósito?",
    )),
    ("leasing", (
        "¿Dónde entrego las llaves?",
        "El piso está vacío y limpio, tomé fotos de todas las habitaciones",
    )),
)  # fmt: skip

_PORTUGUESE: tuple[Conversation, ...] = (
    ("rent", (
        "Boa tarde, eu recebo na {day}. Posso pagar o aluguel nesse dia sem multa?",
        "Seriam ${amount} na {day} e o restante na outra semana",
        "Muito obrigada pela compreensão!",
    )),
    ("rent", (
        "Já paguei ${amount} ontem à noite mas ainda aparece um valor em aberto",
        "O comprovante termina em 4471, vou mandar a foto",
        "Então não devo mais nada deste mês?",
    )),
    ("rent", (
        "Por que o meu aluguel aumentou ${amount}? Ninguém me avisou",
        "Podem me ligar depois das {time}?",
    )),
    ("rent", (
        "Reduziram as minhas horas no trabalho, dá para parcelar?",
        "Consigo pagar metade hoje e metade na {day}.",
        "Sim, passo no escritório para assinar",
        "Chego por volta das {time}",
    )),
    ("repairs", (
        "Olá, estamos sem água quente no apartamento {unit} desde cedo",
        "Não, na cozinha também não sai quente",
        "Podem entrar na {day}, tenho um cachorro mas ele é mansinho",
        "Já voltou, obrigado!",
    )),
    ("repairs", (
        "O ar-condicionado está soltando ar quente de novo e ninguém aguenta esse calor!!",
        "É a terceira vez neste verão. Meu bebê não consegue dormir.",
        "Que horas o técnico vem?",
    )),
    ("repairs", (
        "Está pingando água do teto do banheiro, acho que vem do vizinho de cima",
        "Está piorando, já coloquei um balde embaixo",
        "Venham logo por favor, o chão está todo molhado",
    )),
    ("repairs", (
        "A fechadura da entrada do prédio quebrou e qualquer um pode entrar",
        "Ontem eu também enviei uma foto",
        "Agradeço, tenha uma boa noite",
    )),
    ("leasing", (
        "Bom dia, o apartamento de dois quartos do anúncio ainda está disponível?",
        "Vocês aceitam gatos? A minha tem nove anos",
        "Posso visitar na {day} às {time}?",
        "Combinado, até lá",
    )),
    ("leasing", (
        "O meu contrato acaba no mês que vem e eu queria renovar por mais um ano",
        "O aluguel continua em ${amount}?",
        "Está ótimo, pode me enviar os papéis",
    )),
    ("leasing", (
        "Preciso sair antes por causa de um emprego novo em outra cidade. Qual é a multa?",
        "Quando recebo o caução de volta?",
    )),
    ("leasing", (
        "Onde deixo as chaves?",
        "O apartamento já está vazio e limpo, tirei fotos de todos os cômodos",
    )),
)  # fmt: skip

CONVERSATIONS: Mapping[Language, tuple[Conversation, ...]] = MappingProxyType(
    {"en": _ENGLISH, "es": _SPANISH, "pt": _PORTUGUESE}
)

SINGLE_WORDS: Mapping[Language, tuple[str, ...]] = MappingProxyType(
    {
        "en": (
            "Yes", "yes", "Yeah", "Thanks", "thanks!", "Thank you", "Tomorrow", "Done", "Sure", "Please", "Today",
            "Morning", "Nothing", "Perfect", "Received", "When?", "How much?", "Sorry", "Hello",
        ),
        "es": (
            "Sí", "sí", "Si", "Gracias", "gracias!", "Muchas gracias", "Mañana", "Listo", "Claro", "Por favor", "Hoy",
            "Nada", "Perfecto", "Recibido", "¿Cuándo?", "¿Cuánto?", "Perdón", "Hola", "Bueno",
        ),
        "pt": (
            "Sim", "sim", "Não", "Obrigado", "obrigada!", "Muito obrigado", "Amanhã", "Pronto", "Claro que sim", "Hoje",
            "Nada não", "Perfeito", "Recebido, obrigado", "Quando?", "Quanto é?", "Desculpa", "Olá", "Bom dia",
        ),
    }
)  # fmt: skip

FILLERS: Mapping[Language, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "en": {
            "day": ("Monday", "Tuesday", "Thursday", "Friday"),
            "time": ("9", "10:30", "4 pm", "6"),
            "unit": ("4B", "212", "1F", "307"),
            "amount": ("350", "620", "1,150", "75"),
        },
        "es": {
            "day": ("lunes", "martes", "jueves", "viernes"),
            "time": ("9", "10:30", "4", "6"),
            "unit": ("4B", "212", "1F", "307"),
            "amount": ("350", "620", "1,150", "75"),
        },
        "pt": {
            "day": ("segunda-feira", "terça", "quinta-feira", "sexta"),
            "time": ("9h", "10h30", "16h", "18h"),
            "unit": ("4B", "212", "1F", "307"),
            "amount": ("350", "620", "1.150", "75"),
        },
    }
)

NOISE: tuple[str, ...] = (
    "ok", "OK", "👍", "🙏🙏", "?", "???", "...", "4B", "1150", "12/04 10:30", "lol", "😂😂😂", "",
    "https://example.com/p/83Xk2", "SM-A156U", "asdfgh",
    "Bonjour, le chauffage ne marche plus depuis hier soir",
    "Merci beaucoup, à demain matin",
    "Buongiorno, la lavatrice perde acqua in cucina",
    "Guten Tag, der Aufzug ist schon wieder kaputt",
    "Dzień dobry, nie działa ogrzewanie w łazience",
    "Xin chào, nhà tôi bị mất nước từ sáng",
    "您好，厨房的水龙头一直漏水",
    "Здравствуйте, когда придёт мастер?",
    "مرحبا، التكييف لا يعمل",
    "Bonjou, pa gen dlo cho nan apatman an",
)  # fmt: skip
"""Texts in none of the three languages; the empty one is what a photo without words looks like."""

EMOJI: tuple[str, ...] = ("🙏", "👍", "😊", "😡", "🥵", "💧", "🏠", "🔑")

PHOTO_URLS: tuple[str, ...] = (
    "https://media.example.com/ceiling.jpg",
    "https://media.example.com/lock.jpg",
    "https://media.example.com/meter.png",
    "https://media.example.com/leak.mp4",
)
